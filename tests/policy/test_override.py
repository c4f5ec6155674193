"""A forced choice is followed, warned of, and refused where a hard constraint forbids it."""

from collections.abc import Callable
from typing import Any

import pytest

from components.core.brief import FamilyName, OverrideBrief
from components.core.errors import BriefError
from components.core.records import Decision

Plan = Callable[..., Decision]


def test_the_policy_says_what_it_would_have_chosen(plan: Plan) -> None:
    decision = plan(override=OverrideBrief(family="gan"))
    assert decision.overridden == "diffusion/edm, scratch, many_step"
    warning = next(warning for warning in decision.warnings if warning.code == "override")
    assert "gan/sngan, scratch, one_pass" in warning.text
    assert decision.overridden in warning.text
    assert next(row for row in decision.rejected if row.family == "diffusion").rule == "override"


@pytest.mark.parametrize(
    ("family", "variant", "otherwise"), [("gan", "dcgan", "sngan"), ("autoregressive", "pixelcnn", "pixelcnn-pp")]
)
def test_minutes_of_a_cpu_go_to_what_makes_most_of_them(plan: Plan, family: FamilyName, variant: str, otherwise: str) -> None:
    """As the bench has it; a GPU, larger images or more money have other rules."""
    forced = OverrideBrief(family=family)
    minutes = {"device": "cpu", "tier": "tiny", "side": 28}
    decision = plan(override=forced, **minutes)
    assert decision.variant == variant
    assert "benchmarks/results" in next(reason.source for reason in decision.reasons if reason.rule.endswith("-cpu"))
    for change in ({"device": "cuda"}, {"tier": "small"}):
        assert plan(override=forced, **minutes | change).variant == otherwise
    assert plan(override=forced, **minutes | {"side": 48}).variant != variant


def test_forcing_what_is_chosen_anyway_is_no_override(plan: Plan) -> None:
    decision = plan(override=OverrideBrief(family="diffusion", variant="edm", mode="scratch", delivery="many_step"))
    assert decision.overridden is None
    assert "override.agrees" in {reason.rule for reason in decision.reasons}
    assert "override" not in {warning.code for warning in decision.warnings}


def test_an_override_of_the_config_alone_forces_nothing(plan: Plan) -> None:
    assert plan(override=OverrideBrief(config={"lr_peak": 1e-4})) == plan()


def test_a_variant_alone_names_its_family(plan: Plan) -> None:
    decision = plan(override=OverrideBrief(variant="glow"))
    assert (decision.family, decision.variant) == ("flow", "glow")


@pytest.mark.parametrize("delivery", ["few_step", "one_pass"])
def test_a_delivery_alone(plan: Plan, delivery: Any) -> None:
    decision = plan(override=OverrideBrief(delivery=delivery))
    assert (decision.family, decision.delivery) == ("diffusion", delivery)
    assert decision.estimate.latency_ms.value < plan().estimate.latency_ms.value


def test_fewer_than_all_steps_serve_faster(plan: Plan) -> None:
    few, one = (plan(override=OverrideBrief(delivery=how)).estimate.latency_ms.value for how in ("few_step", "one_pass"))
    assert one < few


def test_a_pretrained_model_is_used_when_its_family_is_forced(plan: Plan) -> None:
    decision = plan(goal="quality", pretrained="vae, in domain", override=OverrideBrief(family="vae"))
    assert (decision.family, decision.mode) == ("vae", "finetune")


@pytest.mark.parametrize(
    ("override", "facts", "words"),
    [
        ({"family": "gan"}, {"modality": "text", "side": None}, "discrete tokens"),
        ({"family": "gan"}, {"require": ("likelihood",)}, "explicit likelihood"),
        ({"family": "vae"}, {"goal": "likelihood"}, "explicit likelihood"),
        ({"family": "autoregressive"}, {"require": ("invertibility",)}, "invertible"),
        ({"family": "vae"}, {"side": 300}, "above 256"),
        ({"family": "vae"}, {"modality": "audio", "side": None}, "audio"),
        ({"variant": "pixelcnn"}, {"side": 65}, "above 64"),
        ({"variant": "pixelcnn"}, {"latency_ms": 500}, "under 1 s"),
        ({"variant": "edm"}, {"side": 512}, "above 256"),
        ({"delivery": "many_step"}, {"goal": "quality", "latency_ms": 500}, "delivery: many_step is impossible"),
        ({"family": "vae", "delivery": "few_step"}, {}, "delivery: few_step is impossible"),
        ({"mode": "lora"}, {}, "no pretrained model is given"),
        ({"mode": "finetune", "family": "gan"}, {"pretrained": "diffusion, general"}, "pretrained model is not a gan"),
        ({"variant": "nonesuch"}, {}, "nonesuch is unknown"),
        ({"family": "vae", "variant": "edm"}, {}, "edm is unknown"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(
    plan: Plan, override: dict[str, Any], facts: dict[str, Any], words: str
) -> None:
    with pytest.raises(BriefError) as caught:
        plan(override=OverrideBrief(**override), **facts)
    line = str(caught.value)
    assert words in line
    assert "allowed: " in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "facts",
    [
        {"modality": "audio", "side": None, "goal": "likelihood"},
        {"modality": "video", "require": ("invertibility",)},
        {"modality": "text", "side": None, "require": ("invertibility",)},
        {"goal": "likelihood", "side": 512},
    ],
)
def test_a_brief_that_nothing_can_meet_is_refused(plan: Plan, facts: dict[str, Any]) -> None:
    with pytest.raises(BriefError, match="nothing can do all the brief asks") as caught:
        plan(**facts)
    assert "drop one" in str(caught.value)


def test_forcing_what_the_goal_never_takes_is_warned_of(plan: Plan) -> None:
    warnings = {warning.code: warning for warning in plan(goal="stability", override=OverrideBrief(family="gan")).warnings}
    assert "rules out gan" in warnings["goal-out-of-reach"].text
    assert "goal-out-of-reach" not in {warning.code for warning in plan(goal="stability").warnings}


def test_forcing_what_a_goal_is_not_met_by_is_warned_of(plan: Plan) -> None:
    warnings = {warning.code: warning for warning in plan(goal="latent", override=OverrideBrief(family="diffusion")).warnings}
    assert warnings["goal-out-of-reach"].text == "goal latent is not what diffusion is for"
    beyond = {warning.code: warning for warning in plan(goal="latent", modality="video").warnings}
    assert "nothing better fits" in beyond["goal-out-of-reach"].text
