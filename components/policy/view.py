"""The decision for people: what is chosen, from which facts, why, what was not, what to look out for, what it costs."""

from typing import TYPE_CHECKING

from components.core.records import Decision, Facts, Figure
from components.policy.facts import items_lacking

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

STEPS = {"one_pass": "one pass", "few_step": "few steps", "many_step": "many steps"}
MODES = {"scratch": "trained from scratch", "finetune": "fine-tuned", "lora": "fine-tuned by LoRA"}
TEXTS = {"000_22e1bc293db55194.txt": "000", "003_83e4aeccad7942ac.txt": "003"}
LEGEND = "000 and 003 are the two texts, in full in --json: 000_22e1bc293db55194.txt, 003_83e4aeccad7942ac.txt"
UNITS = {"s": ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")), "ms": ((1000, "s"), (1, "ms"))}


def view(facts: Facts, decision: Decision) -> "Group":
    """A rich renderable, made for 100 columns."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    def section(title: str, body: "RenderableType", style: str = "bold") -> list["RenderableType"]:
        return [Text(title, style=style), Padding(body, (0, 0, 0, 2)), Text()]

    parts: list[RenderableType] = [_headline(facts, decision), *section("Why", _reasons(decision))]
    if decision.warnings:
        parts += section("Look out", _warnings(decision), "bold yellow")
    parts += [*section("Not chosen", _rejected(decision)), *section("Estimate", _estimate(decision))]
    return Group(*parts, Text(LEGEND, style="dim"))


def amount(figure: Figure) -> str:
    """A figure in the unit that reads best: 90 s, 1.5 h, 2.5 s."""
    for size, name in UNITS.get(figure.unit, ((1, figure.unit),)):
        if abs(figure.value) >= 2 * size or size == 1:
            return f"{_number(figure.value / size)} {name}"
    raise AssertionError("every list of units ends with 1")


def short(source: str) -> str:
    """Sources on one short line, once each: '003 Part 4, Part 5; DESIGN Chart; Karras et al. 2022'."""
    grouped: dict[str, list[str]] = {}
    for one in source.split("; "):
        where, _, place = one.partition(", ")
        place = place.removeprefix("The decision policy: ")
        place = place.split(":")[0] if where in TEXTS else "" if place.startswith(("arXiv", "doi")) else place
        place = "§" + place.split(" ")[0] if place[:1].isdigit() else place
        places = grouped.setdefault(TEXTS.get(where, where), [])
        if place and place not in places:
            places.append(place.rstrip("."))
    return "; ".join(f"{where} {', '.join(places)}".strip() for where, places in grouped.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1g}"


def _headline(facts: Facts, decision: Decision) -> "RenderableType":
    from rich.panel import Panel
    from rich.text import Text

    line = Text.assemble(
        (f"{decision.family}/{decision.variant}", "bold green"),
        f", {MODES[decision.mode]}, {STEPS[decision.delivery]} an item\n",
        (_facts(facts), "dim"),
    )
    if lacking := items_lacking(facts):
        line.append(f"\n`produce` will refuse: {lacking}", style="bold red")
    if decision.budget is not None:
        line.append(f"\ntraining: {decision.budget.text}")
    if decision.overridden:
        line.append(f"\nforced by the brief; the policy would choose {decision.overridden}", style="yellow")
    return Panel(line, border_style="green", padding=(0, 1))


def _facts(facts: Facts) -> str:
    size = f" of {facts.side} px" if facts.side else ""
    items = f"{facts.items:,}" if facts.items is not None else "an unknown number of"
    parts = [f"{items} {facts.modality} items{size}"]
    parts += [f"by {facts.conditioning}"] if facts.conditioning != "none" else []
    parts += [f"goal {facts.goal}", f"{facts.tier} compute"]
    parts += [f"at most {facts.latency_ms:,g} ms an item"] if facts.latency_ms else []
    if facts.pretrained:
        where = "in-domain" if facts.pretrained.in_domain else "general"
        parts.append(f"{where} pretrained {facts.pretrained.family} {facts.pretrained.model}")
    return " · ".join(parts)


def _grid(style: str) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style=style, no_wrap=True)
    table.add_column(ratio=1)
    return table


def _reasons(decision: Decision) -> "Table":
    table, before = _grid("cyan"), ""
    for reason in decision.reasons:
        layer = reason.rule.split(".")[0]
        table.add_row(layer if layer != before else "", _cited(reason.text, reason.source))
        before = layer
    return table


def _warnings(decision: Decision) -> "Table":
    from rich.text import Text

    table = _grid("yellow")
    for warning in decision.warnings:
        table.add_row(warning.code, Text(warning.text))
        table.add_row("", _cited(f"Fix: {warning.fix}", warning.source))
    return table


def _rejected(decision: Decision) -> "Table":
    """Families that are out for the same reason share a row."""
    why: dict[tuple[str, str], list[str]] = {}
    for row in decision.rejected:
        why.setdefault((row.text, row.source), []).append(row.family)
    table = _grid("red")
    for (text, source), families in why.items():
        for line, family in enumerate(families):
            table.add_row(family, _cited(text, source) if line == 0 else "")
    return table


def _estimate(decision: Decision) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1, style="dim")
    estimate = decision.estimate
    named = {
        "training": estimate.training_s,
        "memory": estimate.memory_gb,
        "cost": estimate.cost_usd,
        "latency p95": estimate.latency_ms,
    }
    for name, figure in named.items():
        table.add_row(name, amount(figure), Text(figure.basis))
    return table


def _cited(text: str, source: str) -> "RenderableType":
    from rich.text import Text

    for long, brief in TEXTS.items():
        text = text.replace(long, brief)
    return Text.assemble(text, (f"  [{short(source)}]", "dim"))
