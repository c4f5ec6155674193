"""A pretrained model that is a release made here: its variant is kept, and what it costs is what the family costs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.brief import OverrideBrief, PretrainedBrief
from components.core.errors import BriefError, UnknownModel
from components.core.records import Decision, Pretrained
from components.policy.candidates import _from_card
from components.policy.decide import decide
from components.policy.estimate import evaluations
from components.policy.pretrained import pretrained

Plan = Callable[..., Decision]


def own(family: Any, variant: str, *, in_domain: bool = True) -> Pretrained:
    return Pretrained(model="models:/base@champion", family=family, in_domain=in_domain, release="base/3", variant=variant)


@pytest.mark.parametrize(
    ("goal", "base", "mode"),
    [
        ("latent", ("vae", "beta"), "finetune"),
        ("balanced", ("vae", "vq"), "finetune"),
        ("quality", ("gan", "sngan"), "finetune"),
        ("balanced", ("flow", "realnvp"), "finetune"),
        ("balanced", ("diffusion", "ddpm"), "lora"),
        ("balanced", ("autoregressive", "image-transformer"), "lora"),
    ],
)
def test_the_variant_is_that_of_the_base(plan: Plan, goal: str, base: tuple[str, str], mode: str) -> None:
    """Whatever the rules prefer: a VAE is gaussian, a pretrained GAN style, a small diffusion model edm."""
    decision = plan(goal=goal, pretrained=own(*base))
    assert (decision.family, decision.variant, decision.mode) == (*base, mode)
    assert plan(goal=goal, pretrained=own(*base), tier="medium").variant == base[1]
    assert "variant.base" in {reason.rule for reason in decision.reasons}
    assert decision.overridden is None


def test_the_rate_and_its_source_are_told(plan: Plan) -> None:
    reasons = {reason.rule: reason for reason in plan(pretrained=own("vae", "beta")).reasons}
    assert "the peak learning rate too" in reasons["mode.base-recipe"].text
    assert "0013-starts.md" in reasons["mode.base-recipe"].source
    assert "mode.base-recipe" not in {reason.rule for reason in plan(pretrained="vae, in domain").reasons}
    adapted = {reason.rule: reason for reason in plan(pretrained=own("diffusion", "edm")).reasons}
    assert "the base rests" in adapted["mode.adapter-recipe"].text
    assert "0032-adapters.md" in adapted["mode.adapter-recipe"].source


def test_a_model_that_begins_as_one_made_here_costs_what_it_costs_from_scratch(plan: Plan) -> None:
    """Its network is the family's own; of one made elsewhere the guides' hours are all there is."""
    scratch = plan(override=OverrideBrief(family="vae", variant="beta"))
    tuned = plan(pretrained=own("vae", "beta"))
    assert tuned.mode == "finetune"
    assert tuned.estimate == scratch.estimate
    assert tuned.budget == scratch.budget
    assert tuned.budget is not None
    assert tuned.budget.items_seen is not None, "without a grant, too, it has an end"
    assert plan(pretrained="vae, in domain").estimate != scratch.estimate


@pytest.mark.parametrize("mode", ["finetune", None])
def test_another_variant_has_nothing_to_build_on(plan: Plan, mode: Any) -> None:
    forced = OverrideBrief(family="vae", variant="beta", mode=mode)
    with pytest.raises(
        BriefError, match=r"variant: beta given, and pretrained.model: models:/base@champion is vae/gaussian; allowed: gaussian"
    ):
        plan(pretrained=own("vae", "gaussian"), override=forced)
    decision = plan(pretrained=own("vae", "gaussian"), override=forced.model_copy(update={"mode": "scratch"}))
    assert (decision.variant, decision.mode) == ("beta", "scratch")


def test_a_forced_mode_takes_the_variant_of_the_base(plan: Plan) -> None:
    """Also where the policy would train another variant from scratch."""
    outgrown = {"pretrained": own("diffusion", "ddpm", in_domain=False), "tier": "large"}
    assert plan(**outgrown).mode == "scratch"
    decision = plan(**outgrown, override=OverrideBrief(mode="finetune"))
    assert (decision.family, decision.variant, decision.mode) == ("diffusion", "ddpm", "finetune")
    small = plan(pretrained=own("diffusion", "edm"), override=OverrideBrief(mode="finetune"))
    assert (small.variant, small.mode, small.delivery) == ("edm", "finetune", "many_step")


def test_lora_is_for_the_variants_whose_card_names_it(facts_of: Any, cards: dict[Any, Any]) -> None:
    """Of a release the variant is known; of a model made elsewhere the family."""
    forced, key = OverrideBrief(mode="lora"), ("gan", "style")
    some = cards | {key: cards[key].model_copy(update={"starts": ("scratch", "finetune")})}
    sngan, style = (facts_of(goal="quality", pretrained=own("gan", variant)) for variant in ("sngan", "style"))
    assert decide(sngan, cards=some, override=forced).mode == "lora"
    assert decide(style, cards=cards, override=forced).mode == "lora"
    with pytest.raises(BriefError, match=r"mode: lora is not for gan/style; allowed: scratch, finetune; LoRA is for .*gan/sngan"):
        decide(style, cards=some, override=forced)


def test_a_base_that_a_hard_constraint_forbids_is_of_no_use(plan: Plan) -> None:
    hurried = {"pretrained": own("autoregressive", "pixelcnn"), "latency_ms": 50}
    decision = plan(**hurried)
    assert decision.mode == "scratch"
    assert "mode.pretrained-unused" in {reason.rule for reason in decision.reasons}
    with pytest.raises(
        BriefError, match=r"mode: finetune is impossible: models:/base@champion is autoregressive/pixelcnn, 50 ms"
    ):
        plan(**hurried, override=OverrideBrief(family="autoregressive", mode="finetune"))
    assert plan(**hurried, override=OverrideBrief(family="autoregressive")).mode == "scratch"


def test_a_base_of_a_variant_that_nobody_makes_any_more_is_of_no_use(plan: Plan) -> None:
    assert plan(pretrained=own("vae", "gone")).mode == "scratch"
    with pytest.raises(BriefError, match="vae/gone, which no family here makes"):
        plan(pretrained=own("vae", "gone"), override=OverrideBrief(family="vae", mode="finetune"))


def read(_: str) -> tuple[str, Any, str, dict[str, Any]]:
    return "base/3", "vae", "beta", {"steps": 20, "width": 8}


@pytest.mark.parametrize(
    ("drawn_by", "config", "passes"),
    [
        ({}, {}, "35 passes"),
        ({"steps": 20}, {}, "39 passes"),
        ({"steps": 20, "solver": "ddim"}, {}, "20 passes"),
        ({"steps": 20, "solver": "ddim"}, {"steps": 5}, "5 passes"),
        ({"steps": 20}, {"steps": 1}, "1 pass "),
    ],
)
def test_it_is_drawn_as_its_base_is_or_as_the_brief_says(plan: Plan, drawn_by: Any, config: Any, passes: str) -> None:
    base = own("diffusion", "edm").model_copy(update={"drawn_by": drawn_by})
    decision = plan(pretrained=base, override=OverrideBrief(mode="finetune", config=config))
    assert decision.estimate.latency_ms.basis.startswith(passes)
    another = plan(pretrained=base, override=OverrideBrief(mode="scratch", family="diffusion", variant="ddpm"))
    assert another.estimate.latency_ms.basis.startswith("50 passes")


def test_the_cards_say_how_many_passes_the_default_steps_are(cards: Any) -> None:
    """Without torch a plan must know it."""
    from components.families import find

    stepwise = {key: card for key, card in cards.items() if card.stepwise}
    assert len(stepwise) > 5
    for key, card in stepwise.items():
        default = find(*key).Config.model_fields["steps"].default
        assert evaluations(_from_card(card, None), default) == card.steps, key


def test_what_a_release_is_is_read_whatever_the_brief_says(tmp_path: Path) -> None:
    given = PretrainedBrief(model="models:/base@champion", family="vae", in_domain=True)
    found = pretrained(given, base=tmp_path, read_release=read)
    assert (found.release, found.variant, found.drawn_by) == ("base/3", "beta", {"steps": 20})
    assert found.notes == ("models:/base@champion is base/3, a vae/beta model, as its release says",)
    with pytest.raises(BriefError, match=r"pretrained.family: gan given, and models:/base@champion is a vae model; allowed: vae"):
        pretrained(given.model_copy(update={"family": "gan"}), base=tmp_path, read_release=read)


def test_a_release_that_is_not_here_is_planned_by_its_stated_family(tmp_path: Path) -> None:
    def gone(_: str) -> tuple[str, Any, str, dict[str, Any]]:
        raise UnknownModel("not here")

    given = PretrainedBrief(model="models:/base@champion", family="vae")
    found = pretrained(given, base=tmp_path, read_release=gone)
    assert (found.family, found.release, found.variant) == ("vae", None, None)
    with pytest.raises(UnknownModel, match="not here"):
        pretrained(PretrainedBrief(model="models:/base@champion"), base=tmp_path, read_release=gone)
