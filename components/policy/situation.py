"""The situation the tables are asked about: the Facts, what follows from them, and what is chosen so far."""

from string import Formatter
from typing import Any

from components.core.records import Facts, Pretrained
from components.policy.conditions import Situation, Value
from components.policy.estimate import denoising_step_ms, piece_ms
from components.policy.facts import items_lacking
from components.policy.tables import Tables


def situation(facts: Facts, tables: Tables) -> dict[str, Value]:
    """What is known before anything is chosen."""
    pretrained = facts.pretrained
    big_data = facts.items is not None and facts.items >= tables.tiers.items_big
    step = denoising_step_ms(facts, tables.estimate)
    limit = facts.latency_ms if facts.latency_ms is not None else float("inf")
    return {
        "modality": facts.modality,
        "goal": facts.goal,
        "conditioning": facts.conditioning,
        "tier": facts.tier,
        "device": facts.device,
        "items": facts.items,
        "side": facts.side,
        "classes": facts.classes,
        "too_few_items": bool(items_lacking(facts)),
        "items_lacking": items_lacking(facts),
        "duplicates_percent": 100 * facts.duplicates,
        "rare_classes": len(facts.rare_classes),
        "rare_class_names": ", ".join(facts.rare_classes[:8]) + (", ..." if len(facts.rare_classes) > 8 else ""),
        "minutes": facts.minutes,
        "usd": facts.usd,
        "gpu_hours": facts.gpu_hours,
        "latency_ms": facts.latency_ms,
        "batch": facts.batch,
        "data": "big" if big_data else "small",
        "compute": "big" if facts.tier in tables.tiers.big else "small",
        "pretrained": "none" if pretrained is None else "in_domain" if pretrained.in_domain else "general",
        "pretrained_family": pretrained.family if pretrained else "none",
        "pretrained_variant": pretrained.variant if pretrained else None,
        "made_here": pretrained is not None and pretrained.release is not None,
        "base_terms": pretrained.foreign.licence.terms if pretrained and pretrained.foreign else "none",
        "base_licence": _licence(pretrained),
        "use": facts.use or "none",
        "likelihood": facts.goal == "likelihood" or "likelihood" in facts.require,
        "invertibility": "invertibility" in facts.require,
        "accepts_instability": "instability" in facts.accept,
        "step_ms": step,
        "one_step_fits": step <= limit,
        "sequential_fits": piece_ms(facts, tables.estimate, sequential="pixel") <= limit,
    }


def _licence(pretrained: Pretrained | None) -> str:
    licence = pretrained.foreign.licence if pretrained and pretrained.foreign else None
    return licence.text if licence and licence.name else "none that is named"


class _Fill(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return "unknown" if value is None else str(super().format_field(value, format_spec))


def fill(text: str, now: Situation) -> str:
    """The sentence of a rule with the situation's values in it; what is not known reads 'unknown'."""
    return _Fill().vformat(text, (), {**dict.fromkeys(_asked(text)), **now})


def _asked(text: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(text) if field]
