"""Whatever the policy decides for images from scratch, there is a family here that makes it."""

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from components import families
from components.core.brief import Brief, Conditioning, Goal
from components.core.errors import BriefError, GenwrightError, NotBuilt
from components.core.records import Decision, Facts, Pretrained, Tier
from components.pipeline import refusals, resolve
from components.pipeline.backends import Backends
from components.policy.decide import decide
from components.policy.tables import load_tables
from flows.settings import Settings

VAE_OR_DIFFUSION = {("vae", "one_pass"), ("diffusion", "many_step"), ("diffusion", "few_step")}
MADE = {  # what each goal comes to, over all briefs of this test
    "balanced": VAE_OR_DIFFUSION,
    "quality": VAE_OR_DIFFUSION,
    "speed": {("gan", "one_pass"), ("diffusion", "few_step")},
    "stability": VAE_OR_DIFFUSION,
    "latent": VAE_OR_DIFFUSION,
    "likelihood": {("autoregressive", "many_step"), ("flow", "one_pass")},
    "diversity": VAE_OR_DIFFUSION,
    "reconstruction": {("autoencoder", "one_pass"), ("diffusion", "many_step"), ("diffusion", "few_step")},
}
SIDES = (8, 64, 96, 512)


@pytest.mark.parametrize("goal", MADE)
def test_every_decision_for_images_from_scratch_can_be_produced(goal: str, tmp_path: Path) -> None:
    backends = Backends(Settings(home=tmp_path))
    made = set()
    for side, items, usd, latency_ms, conditioning in product(
        SIDES, (500, 60_000), (20, 500_000), (None, 2, 50), ("none", "class")
    ):
        brief = Brief.model_validate(
            {
                "name": "any",
                "modality": "image",
                "goal": goal,
                "conditioning": conditioning,
                "data": {"path": "nowhere", "items": items, "side": side},
                "compute": {"usd": usd},
                "serving": {} if latency_ms is None else {"latency_ms": latency_ms},
            }
        )
        if (goal, side) == ("likelihood", 512):  # of so many pixels nothing here tells the likelihood
            with pytest.raises(BriefError, match="nothing can do all the brief asks"):
                resolve.plan(brief, backends, base=tmp_path)
            continue
        facts, decision = resolve.plan(brief, backends, base=tmp_path)
        assert decision.mode == "scratch"
        refusals.check_built(facts, decision)
        made.add((decision.family, decision.delivery))
    assert made == MADE[goal]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("usd", [20, 500_000])
def test_every_decision_for_images_by_text_can_be_produced(usd: float, side: int, tmp_path: Path) -> None:
    known = {"name": "any", "modality": "image", "conditioning": "text", "data": {"path": "nowhere", "items": 500, "side": side}}
    facts, decision = resolve.plan(Brief.model_validate(known | {"compute": {"usd": usd}}), Backends(Settings(home=tmp_path)))
    assert decision.mode == "scratch"
    refusals.check_built(facts, decision)
    assert not any("not built" in line for line in decision.refusals)


def bases(in_domain: bool) -> Iterator[Pretrained | None]:
    """Nothing; a model of the hub and a release that are not here, of each family; a release of each variant; folders."""
    yield None
    for family in load_tables().known_families:
        for model in ("hf:org/base", "models:/base@champion"):
            yield Pretrained(model=model, family=family, in_domain=in_domain)
    for family, variant in families.cards():
        own = {"family": family, "variant": variant, "in_domain": in_domain}
        yield Pretrained(model="models:/base@champion", release="base/1", **own)
        yield Pretrained(model="base", **own)


@pytest.mark.parametrize("conditioning", get_args(Conditioning))
def test_no_plan_for_images_ends_in_not_built(conditioning: Conditioning) -> None:
    """Each base, of this domain and of another, on each tier; what else a brief says is drawn."""
    draw, made = random.Random(0), set()
    for in_domain, tier in product((False, True), get_args(Tier)):
        for base in bases(in_domain):
            drawn: dict[str, Any] = {
                "goal": draw.choice(get_args(Goal)),
                "side": draw.choice((8, 32, 64, 100, 128, 256, 512, 1024)),
                "items": draw.choice((100, 3_000, 60_000)),
                "latency_ms": draw.choice((None, None, 2.0, 50.0, 5_000.0)),
                "device": draw.choice(("cpu", "cuda")),
            }
            facts = Facts(
                modality="image", conditioning=conditioning, tier=tier, tier_because="a test", classes=3, captions=100, usd=None,
                gpu_hours=None, minutes=None, batch=16, pretrained=base, **drawn,
            )  # fmt: skip
            try:
                decision = decide(facts, cards=refusals.built_cards())
            except BriefError as error:
                assert "nothing can do all the brief asks" in str(error)  # noqa: PT017
                assert drawn["goal"] == "likelihood"
                continue
            refusals.check_built(facts, decision)
            made.add(decision.variant)
    wanted = {
        "none": {"gaussian", "edm", "latent", "dit", "vq-transformer", "unclip", "mmdit"},
        "class": {"gaussian", "edm", "latent", "dit", "vq-transformer", "unclip"},
        "text": {"edm", "latent", "cascade", "unclip", "ldm", "mmdit", "vq-transformer"},
    }
    assert wanted[conditioning] <= made


@pytest.mark.parametrize(
    ("asked", "variant", "because"),
    [
        ({"side": 32}, "edm", "up to 64 pixels"),
        ({"side": 32, "device": "cpu"}, "latent", "cross-attention"),
        ({"side": 32, "goal": "diversity", "items": 5_000, "device": "cpu"}, "latent", "cross-attention"),
        ({"side": 32, "goal": "diversity", "items": 5_000}, "unclip", "DALL-E 2's way"),
        ({"side": 32, "goal": "diversity", "items": 500}, "edm", "up to 64 pixels"),
        ({"side": 32, "goal": "diversity", "items": 5_000, "latency_ms": 50}, "edm", "few steps"),
        ({"side": 128, "goal": "quality", "usd": 5_000}, "cascade", "Imagen's way"),
        ({"side": 128, "goal": "quality", "usd": 500}, "latent", "cross-attention"),
        ({"side": 128, "goal": "quality", "usd": 5_000, "latency_ms": 900}, "latent", "few steps"),
        ({"side": 512, "goal": "quality", "usd": 5_000}, "latent", "cross-attention"),
        ({"side": 32, "override": {"family": "autoregressive"}}, "vq-transformer", "one sequence"),
    ],
)
def test_each_way_from_a_text_is_chosen_where_it_fits(asked: dict[str, Any], variant: str, because: str, tmp_path: Path) -> None:
    wanted = dict(asked)
    data = {"path": "nowhere", "items": wanted.pop("items", 5_000), "side": wanted.pop("side")}
    known: dict[str, Any] = {"name": "any", "modality": "image", "conditioning": "text", "data": data}
    known |= {"compute": {"usd": wanted.pop("usd", 50), "device": wanted.pop("device", "cuda")}}
    if "latency_ms" in wanted:
        known["serving"] = {"latency_ms": wanted.pop("latency_ms")}
    facts, decision = resolve.plan(Brief.model_validate(known | wanted), Backends(Settings(home=tmp_path)))
    assert decision.variant == variant
    assert decision.delivery == ("few_step" if "latency_ms" in asked else "many_step")
    assert any(because in reason.text for reason in decision.reasons if reason.rule.startswith("variant."))
    assert any("other ways from a caption" in reason.text for reason in decision.reasons)
    refusals.check_built(facts, decision)


@pytest.mark.parametrize("variant", ["cascade", "unclip", "ddpm", "dit"])
def test_what_has_no_few_steps_is_not_forced_into_them(variant: str, tmp_path: Path) -> None:
    known = {"name": "any", "modality": "image", "data": {"path": "nowhere", "items": 5000, "side": 32}}
    backends = Backends(Settings(home=tmp_path))
    few = {"family": "diffusion", "variant": variant, "delivery": "few_step"}
    with pytest.raises(BriefError, match="delivery: few_step is impossible for diffusion/"):
        resolve.plan(Brief.model_validate(known | {"override": few}), backends)
    hurried = {"override": {"family": "diffusion", "variant": variant}, "serving": {"latency_ms": 50}}
    with pytest.raises(BriefError, match="is impossible: 50 ms is under 1 s"):
        resolve.plan(Brief.model_validate(known | hurried), backends)


def test_a_family_without_a_graph_is_not_trained_for_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"name": "any", "modality": "image", "data": {"path": "nowhere", "items": 5000, "side": 32}}
    facts, decision = resolve.plan(Brief.model_validate(known), Backends(Settings(home=tmp_path)))
    without = {key: (card.model_copy(update={"exports": False}), *rest) for key, (card, *rest) in families.cards().items()}
    monkeypatch.setattr(families, "cards", lambda: without)
    with pytest.raises(NotBuilt, match="has no ONNX graph; "):
        refusals.check_built(facts, decision)


@pytest.mark.parametrize("variant", ["ect", "latent-ect", "mmdit-lcm"])
def test_a_variant_made_for_few_steps_is_delivered_in_few(variant: str, tmp_path: Path) -> None:
    known = {"name": "any", "modality": "image", "data": {"path": "nowhere", "items": 5000, "side": 32}}
    brief = Brief.model_validate(known | {"override": {"family": "diffusion", "variant": variant}})
    facts, decision = resolve.plan(brief, Backends(Settings(home=tmp_path)))
    assert (decision.variant, decision.delivery) == (variant, "few_step")
    refusals.check_built(facts, decision)


LORA = {
    "name": "any",
    "modality": "image",
    "data": {"path": "nowhere", "items": 3000, "side": 512},
    "compute": {"usd": 300, "device": "cpu"},
    "pretrained": {"model": "hf:org/base", "family": "diffusion"},
}


def planned(tmp_path: Path, **changes: object) -> tuple[Brief, Facts, Decision]:
    brief = Brief.model_validate({**LORA, **changes})
    return brief, *resolve.plan(brief, Backends(Settings(home=tmp_path)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pretrained": None, "modality": "audio"}, "nor is any other model of audio"),
        ({"pretrained": None, "modality": "video"}, "nor is any other model of video"),
        ({"pretrained": None, "modality": "text"}, "nor is any other model of text"),
        ({"pretrained": None, "compute": {"device": "cuda"}}, "no NVIDIA GPU on this machine"),
        ({"pretrained": None}, "nowhere: not a prepared dataset"),
        ({"pretrained": None, "data": {"path": "nowhere", "items": 40, "side": 32}}, "nowhere: 40 items, and a proof needs 64"),
    ],
)
def test_a_plan_says_what_producing_refuses(
    changes: dict[str, object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (refusals, resolve):  # as on a machine without
        monkeypatch.setattr(each, "device_for", lambda wanted: "cpu" if wanted == "auto" else wanted)
    brief, facts, decision = planned(tmp_path, **changes)
    assert any(words in line for line in decision.refusals)
    assert all(line.endswith("(exit 2)") and "\n" not in line for line in decision.refusals)
    with pytest.raises(GenwrightError) as caught:
        refusals.check(brief, facts, decision, None)
    assert decision.refusals[0] == f"{caught.value} (exit {caught.value.exit_code})", "the first is what produce ends with"


def test_what_can_be_produced_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.data.versions.check_named", lambda *_, **__: None)
    assert planned(tmp_path, pretrained=None)[2].refusals == ()


@pytest.mark.parametrize("conditioning", ["none", "class", "text"])
@pytest.mark.parametrize("usd", [50, 300, 20_000, 1_000_000])
def test_what_is_begun_with_a_model_of_the_hub_is_built(conditioning: str, usd: float, tmp_path: Path) -> None:
    _, facts, decision = planned(tmp_path, conditioning=conditioning, compute={"usd": usd, "device": "cpu"})
    assert decision.mode != "scratch"
    refusals.check_built(facts, decision)  # as far as is known of a model that is not here
