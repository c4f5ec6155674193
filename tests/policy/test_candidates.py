"""Cards outrank the plan: what a built variant can do decides, and a family dropped in is known without any edit."""

from collections.abc import Callable
from typing import Any

from components.core.brief import OverrideBrief
from components.core.card import Card
from components.core.records import Decision, Facts
from components.policy.decide import decide


def card_of(family: str, variant: str, **changes: Any) -> dict[tuple[str, str], Card]:
    plain: dict[str, Any] = {
        "family": family, "variant": variant, "title": "test", "modalities": ("image",), "conditioning": ("none", "class"),
        "likelihood": "none", "latent": False, "steps": 10, "side_max": 64, "data_appetite": 1, "references": ("none",),
    }  # fmt: skip
    return {(family, variant): Card(**{**plain, **changes})}


def test_a_card_outranks_the_planned_row(facts_of: Callable[..., Facts]) -> None:
    unconditional = card_of("diffusion", "edm", conditioning=("none",))
    assert decide(facts_of(conditioning="class"), cards={}).variant == "edm"
    assert decide(facts_of(conditioning="class"), cards=unconditional).variant != "edm"
    assert decide(facts_of(), cards=unconditional).variant == "edm"


def test_the_steps_of_the_card_make_the_latency(facts_of: Callable[..., Facts]) -> None:
    few, many = (decide(facts_of(), cards=card_of("diffusion", "edm", steps=steps)) for steps in (10, 100))
    assert many.estimate.latency_ms.value == 10 * few.estimate.latency_ms.value


def test_too_few_items_for_the_card_are_warned_of(plan: Callable[..., Decision], facts_of: Callable[..., Facts]) -> None:
    hungry = card_of("diffusion", "edm", data_appetite=50_000)
    assert "small-data" in {warning.code for warning in decide(facts_of(), cards=hungry).warnings}
    assert "small-data" not in {warning.code for warning in decide(facts_of(items=50_000), cards=hungry).warnings}


def test_a_side_beyond_every_variant_takes_the_furthest_and_warns(plan: Callable[..., Decision]) -> None:
    decision = plan(side=5_000)
    assert (decision.family, decision.variant) == ("diffusion", "latent")
    assert "side-beyond-variant" in {warning.code for warning in decision.warnings}


def test_a_family_dropped_in_can_be_forced(facts_of: Callable[..., Facts]) -> None:
    cards = card_of("gan", "novel")
    decision = decide(facts_of(), cards=cards, override=OverrideBrief(variant="novel"))
    assert (decision.family, decision.variant) == ("gan", "novel")


def test_a_variant_dropped_in_is_taken_when_it_alone_fits(facts_of: Callable[..., Facts]) -> None:
    cards = card_of("flow", "spoken", conditioning=("text",), likelihood="exact")
    decision = decide(facts_of(conditioning="text", require=("invertibility",)), cards=cards)
    assert (decision.family, decision.variant) == ("flow", "spoken")
