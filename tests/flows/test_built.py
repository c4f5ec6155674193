"""Whatever the policy decides for images from scratch, there is a family here that makes it."""

from itertools import product
from pathlib import Path

import pytest

from components.core.brief import Brief
from components.core.errors import BriefError
from flows import deciding
from flows.place import Place
from flows.settings import Settings

GOALS = ("balanced", "quality", "speed", "stability", "latent", "likelihood", "diversity", "reconstruction")
SIDES = (8, 64, 96, 512)


@pytest.mark.parametrize("goal", GOALS)
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
        try:
            facts, decision = deciding.plan(brief, place)
        except BriefError:  # no model can do what is asked: refused by the policy, in one line
            continue
        assert decision.mode == "scratch"
        deciding.check_built(facts, decision)
        made.add((decision.family, decision.delivery))
    assert made


@pytest.mark.parametrize("variant", ["ect", "latent-ect"])
def test_a_variant_made_for_few_steps_is_delivered_in_few(variant: str, tmp_path: Path) -> None:
    known = {"name": "any", "modality": "image", "data": {"path": "nowhere", "items": 5000, "side": 32}}
    brief = Brief.model_validate(known | {"override": {"family": "diffusion", "variant": variant}})
    facts, decision = deciding.plan(brief, Place(Settings(home=tmp_path)))
    assert (decision.variant, decision.delivery) == (variant, "few_step")
    deciding.check_built(facts, decision)
