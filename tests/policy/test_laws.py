"""Laws of the policy on every brief that could be written: one Decision, no broken hard constraint, every other family answered.

The hard constraints are written here a second time, from DESIGN's words and not from the tables.
"""

from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.core.brief import (
    Brief,
    ComputeBrief,
    Conditioning,
    DataBrief,
    Goal,
    PretrainedBrief,
    ServingBrief,
)
from components.core.card import Card
from components.core.errors import BriefError
from components.core.records import Decision, Facts
from components.families import cards as found
from components.policy.decide import decide
from components.policy.facts import facts
from components.policy.tables import load_tables

FAMILIES = set(load_tables().known_families)
MODALITIES = load_tables().known_modalities
BUILT: dict[tuple[str, str], Card] = {key: entry[0] for key, entry in found().items()}
WARNINGS = {
    "too-few-items",
    "rare-class",
    "identical-items",
    "vae-for-quality",
    "mode-collapse-unchecked",
    "scratch-at-foundation-scale",
    "slow-sampling",
    "few-steps-unguided",
    "unstable-gan-loss",
    "small-data",
    "side-beyond-variant",
    "goal-out-of-reach",
    "override",
}


def test_the_tables_know_what_the_design_names() -> None:
    assert {"autoencoder", "vae", "gan", "flow", "diffusion", "autoregressive"} == FAMILIES
    assert set(MODALITIES) == {"image", "audio", "video", "text"}


def one_of(kind: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(kind))


@st.composite
def briefs(draw: st.DrawFn) -> Brief:
    """Any brief that the Brief record itself admits."""
    modality, goal, conditioning = draw(st.sampled_from(MODALITIES)), draw(one_of(Goal)), draw(one_of(Conditioning))
    require = draw(st.sets(st.sampled_from(["invertibility", "likelihood"])).map(lambda names: tuple(sorted(names))))
    if modality == "text":
        goal = "balanced" if goal in ("latent", "reconstruction") else goal
        conditioning = "none" if conditioning == "text" else conditioning
    if goal in ("latent", "reconstruction"):
        require = tuple(name for name in require if name != "invertibility")
    pretrained = st.builds(
        PretrainedBrief,
        model=st.just("models:/base@champion"),
        family=st.none() | st.sampled_from(sorted(FAMILIES)),
        in_domain=st.none() | st.booleans(),
    )
    money = st.sampled_from([None, 5.0, 99.99, 100.0, 999.0, 1000.0, 99_999.0, 100_000.0, 1e7])
    latency = st.sampled_from([None, 0.01, 1.0, 5.0, 50.0, 999.0, 1000.0, 4000.0, 1e6])
    return Brief(
        name="any",
        modality=modality,
        goal=goal,
        conditioning=conditioning,
        require=require,
        accept=draw(st.sampled_from([(), ("instability",)])),
        data=DataBrief(
            path="x",
            items=draw(st.sampled_from([1, 900, 9_999, 10_000, 60_000, 10**9])),
            side=draw(st.sampled_from([1, 8, 28, 64, 65, 128, 256, 257, 1024, 5000])),
        ),
        pretrained=draw(st.none() | pretrained),
        compute=ComputeBrief(
            usd=draw(money), gpu_hours=draw(st.sampled_from([None, 1.0, 50.0, 1e5])), minutes=draw(st.sampled_from([None, 2.0]))
        ),
        serving=ServingBrief(latency_ms=draw(latency)),
    )


def admissible(facts: Facts) -> set[str]:
    """The families that DESIGN's hard constraints leave, written from its words."""
    left = {"text": {"autoregressive"}, "audio": {"diffusion", "gan"}, "video": {"diffusion", "gan"}}.get(
        facts.modality, FAMILIES
    )
    exact = facts.goal == "likelihood" or "likelihood" in facts.require
    picture = facts.modality in ("image", "video")
    wide = picture and facts.side is not None and facts.side > 64
    hurried = facts.latency_ms is not None and facts.latency_ms < 1000
    if exact:
        left = left & {"autoregressive", "flow"}
    if "invertibility" in facts.require:
        left = left & {"flow"}
    if picture and facts.side is not None and facts.side > 256:
        left = left & {"diffusion", "gan"}
    if facts.conditioning == "text":
        left = left & {"diffusion", "autoregressive"}
    # codes of a VQ autoencoder are no exact likelihood, and pixels are out when wide or hurried
    if exact and facts.modality == "image" and (wide or hurried or facts.conditioning == "text"):
        left = left - {"autoregressive"}
    return left


def check_hard(facts: Facts, decision: Decision) -> None:
    assert decision.family in admissible(facts)
    pixelwise = decision.variant in ("pixelcnn", "pixelcnn-pp", "image-transformer")
    hurried = facts.latency_ms is not None and facts.latency_ms < 1000
    picture = facts.modality in ("image", "video") and facts.side is not None
    assert not (hurried and decision.family == "diffusion" and decision.delivery == "many_step")
    assert not (hurried and pixelwise)
    assert not (picture and (facts.side or 0) > 64 and pixelwise)
    if picture and (facts.side or 0) > 256 and decision.family == "diffusion":
        assert decision.variant in ("latent", "ldm", "cascade", "video-diffusion")


def check_whole(facts: Facts, decision: Decision) -> None:
    assert decision.reasons
    assert all(reason.rule and reason.text and reason.source for reason in decision.reasons)
    assert [row.family for row in decision.rejected].count(decision.family) == 0
    assert {row.family for row in decision.rejected} == FAMILIES - {decision.family}
    assert len(decision.rejected) == len(FAMILIES) - 1
    assert all(row.rule and row.text and row.source for row in decision.rejected)
    codes = [warning.code for warning in decision.warnings]
    assert set(codes) <= WARNINGS
    assert len(codes) == len(set(codes))
    assert all(warning.fix and warning.source for warning in decision.warnings)
    assert (decision.mode == "scratch") or (facts.pretrained is not None and facts.pretrained.family == decision.family)
    assert decision.mode != "lora" or decision.family in ("diffusion", "autoregressive")
    assert decision.delivery in {
        "diffusion": ("few_step", "many_step"),
        "autoregressive": ("many_step",),
    }.get(decision.family, ("one_pass",))
    for figure in (
        decision.estimate.training_s,
        decision.estimate.memory_gb,
        decision.estimate.cost_usd,
        decision.estimate.latency_ms,
    ):
        assert figure.value > 0
        assert any(word in figure.basis for word in ("measured", "assumed", "text", "brief", "setting"))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(brief=briefs(), device=st.sampled_from(["cpu", "cuda"]), built=st.booleans())
def test_every_brief_gets_one_decision_or_is_impossible(brief: Brief, device: Any, built: bool) -> None:
    made = facts(brief, dataset=None, device=device)
    cards = BUILT if built else {}
    if not admissible(made):
        with pytest.raises(BriefError) as caught:
            decide(made, cards=cards)
        assert "\n" not in str(caught.value)
        return
    decision = decide(made, cards=cards)
    check_hard(made, decision)
    check_whole(made, decision)
    again = decide(made, cards=cards)
    assert decision.canonical() == again.canonical()
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
    assert "unknown" not in " ".join(reason.text for reason in decision.reasons)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(brief=briefs(), family=st.sampled_from(sorted(FAMILIES)), device=st.sampled_from(["cpu", "cuda"]))
def test_an_override_is_followed_or_refused(brief: Brief, family: Any, device: Any) -> None:
    from components.core.brief import OverrideBrief

    made = facts(brief, dataset=None, device=device)
    override = OverrideBrief(family=family)
    if family not in admissible(made):
        with pytest.raises(BriefError) as caught:
            decide(made, cards=BUILT, override=override)
        assert "\n" not in str(caught.value)
        return
    own, decision = decide(made, cards=BUILT), decide(made, cards=BUILT, override=override)
    check_hard(made, decision)
    check_whole(made, decision)
    assert decision.family == family
    assert (decision.overridden is None) == (own.family == family)
    assert ("override" in {warning.code for warning in decision.warnings}) == (own.family != family)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(brief=briefs())
def test_goals_never_take_what_they_forbid(brief: Brief) -> None:
    made = facts(brief, dataset=None, device="cpu")
    assume(admissible(made))
    decision = decide(made, cards=BUILT)
    if made.goal in ("stability", "diversity", "latent", "likelihood", "reconstruction"):
        assert decision.family != "gan"
    if decision.family == "gan" and decision.mode == "scratch":
        assert made.goal == "speed", "a GAN from scratch is for speed alone"
