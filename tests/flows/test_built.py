"""Whatever the policy decides for images from scratch, there is a family here that makes it."""

from itertools import product
from pathlib import Path

import pytest

from components import families
from components.core.brief import Brief
from components.core.errors import BriefError, NotBuilt
from flows import deciding
from flows.place import Place
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
    place = Place(Settings(home=tmp_path))
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
                deciding.plan(brief, place)
            continue
        facts, decision = deciding.plan(brief, place)
        assert decision.mode == "scratch"
        deciding.check_built(facts, decision)
        made.add((decision.family, decision.delivery))
    assert made == MADE[goal]


@pytest.mark.parametrize("side", SIDES)
def test_captions_without_a_pretrained_model_end_in_a_clear_line(side: int, tmp_path: Path) -> None:
    """The texts decide such a training, for budgets that nothing here is made for."""
    known = {"name": "any", "modality": "image", "conditioning": "text", "data": {"path": "nowhere", "items": 500, "side": side}}
    facts, decision = deciding.plan(Brief.model_validate(known), Place(Settings(home=tmp_path)))
    assert decision.mode == "scratch"
    with pytest.raises(NotBuilt, match=r"conditioning text for \S+ from scratch is not built yet; allowed: none, class"):
        deciding.check_built(facts, decision)


def test_a_family_without_a_graph_is_not_trained_for_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"name": "any", "modality": "image", "data": {"path": "nowhere", "items": 5000, "side": 32}}
    facts, decision = deciding.plan(Brief.model_validate(known), Place(Settings(home=tmp_path)))
    card = families.find_card(decision.family, families.maker(decision.family, decision.variant, decision.delivery))
    monkeypatch.setattr(families, "find_card", lambda *_: card.model_copy(update={"exports": False}))
    with pytest.raises(NotBuilt, match="has no ONNX graph; force another family"):
        deciding.check_built(facts, decision)


@pytest.mark.parametrize("variant", ["ect", "latent-ect"])
def test_a_variant_made_for_few_steps_is_delivered_in_few(variant: str, tmp_path: Path) -> None:
    known = {"name": "any", "modality": "image", "data": {"path": "nowhere", "items": 5000, "side": 32}}
    brief = Brief.model_validate(known | {"override": {"family": "diffusion", "variant": variant}})
    facts, decision = deciding.plan(brief, Place(Settings(home=tmp_path)))
    assert (decision.variant, decision.delivery) == (variant, "few_step")
    deciding.check_built(facts, decision)
