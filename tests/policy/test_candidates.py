"""Cards outrank the plan: what a built variant can do decides, and a family dropped in is known without any edit."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from components.core.brief import Goal, OverrideBrief
from components.core.card import Card
from components.core.errors import BriefError
from components.core.records import Decision, Facts
from components.policy.decide import decide


def card_of(family: str, variant: str, **changes: Any) -> dict[tuple[str, str], Card]:
    plain: dict[str, Any] = {
        "family": family, "variant": variant, "title": "test", "modalities": ("image",), "conditioning": ("none", "class"),
        "likelihood": "none", "latent": False, "steps": 10, "side_max": 64, "data_appetite": 1, "references": ("none",),
        "stepwise": family == "diffusion",
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
    cards = card_of("flow", "spoken", conditioning=("text",), likelihood="exact", invertible=True)
    decision = decide(facts_of(conditioning="text", require=("invertibility",)), cards=cards)
    assert (decision.family, decision.variant) == ("flow", "spoken")


def test_what_a_card_says_it_can_do_decides_and_not_its_family(facts_of: Callable[..., Facts]) -> None:
    """A GAN in steps draws in many steps, a diffusion model in one pass in one; a flow that cannot be inverted is none."""
    steps = decide(facts_of(), cards=card_of("gan", "sngan", stepwise=True), override=OverrideBrief(variant="sngan"))
    one = decide(facts_of(), cards=card_of("diffusion", "edm", stepwise=False), override=OverrideBrief(variant="edm"))
    assert (steps.delivery, one.delivery) == ("many_step", "one_pass")
    lossy = card_of("flow", "glow", likelihood="exact") | card_of("flow", "realnvp", likelihood="exact")
    with pytest.raises(BriefError, match="only a flow is invertible"):
        decide(facts_of(require=("invertibility",)), cards=lossy)


def test_a_family_of_a_new_name_is_known_and_only_an_override_chooses_it(
    facts_of: Callable[..., Facts], cards: dict[tuple[str, str], Card]
) -> None:
    """The tables have no row for it: no prior, no cost, no rejection."""
    more = cards | card_of("spline", "cubic", steps=1)
    for goal in get_args(Goal):
        own = decide(facts_of(goal=goal), cards=more)
        assert own.family == decide(facts_of(goal=goal), cards=cards).family
        rejected = next(each for each in own.rejected if each.family == "spline")
        assert rejected.text == "no table has a prior for it: only an override chooses it" or rejected.rule.startswith("hard.")
    forced = decide(facts_of(), cards=more, override=OverrideBrief(family="spline"))
    assert (forced.family, forced.variant, forced.mode, forced.delivery) == ("spline", "cubic", "scratch", "one_pass")
    assert "a family without a row here" in (forced.budget.text if forced.budget else "") or forced.estimate.training_s.value > 0
    assert {each.family for each in forced.rejected} == {family for family, _ in more} - {"spline"}


def test_a_family_that_alone_draws_a_modality_is_taken_with_a_reason(facts_of: Callable[..., Facts]) -> None:
    cards = card_of("spline", "cubic", modalities=("series",)) | card_of("wavelet", "haar", modalities=("series",))
    decision = decide(facts_of(modality="series", side=None), cards=cards)
    assert decision.family == "spline"
    reason = next(each for each in decision.reasons if each.rule == "default.no-prior")
    assert "no table has a prior for what is left (spline, wavelet), and nothing else can draw series" in reason.text


def test_a_family_that_nobody_brings_is_refused_with_what_there_is(facts_of: Callable[..., Facts]) -> None:
    with pytest.raises(
        BriefError, match=r"override: family: poetry is unknown; allowed: autoencoder, vae, gan, flow, diffusion,"
    ):
        decide(facts_of(), cards={}, override=OverrideBrief(family="poetry"))
