"""What a plan says of the gates by the counts that a proof really has."""

import subprocess
import sys
from typing import Any

import pytest
from specs import image_item

from components.core.brief import Brief, ProofBrief
from components.core.records import Facts
from components.pipeline import refusals
from components.pipeline.gate_power import gate_power
from components.policy.decide import decide


def said(side: int, item: Any = None, *, looks: int = 3, **proof: Any) -> tuple[str, ...]:
    """Of 60,000 images of this longer edge, with gates that equals hardly pass."""
    facts = Facts(
        modality="image", conditioning="none", goal="quality", tier="small", tier_because="a test", classes=0, usd=None,
        items=60_000, gpu_hours=None, minutes=None, batch=16, side=side, latency_ms=None, device="cpu",
    )  # fmt: skip
    gates = {"distance_ratio_max": 1.5, "heldout_ratio_max": 1.1}
    brief = Brief(name="a", modality="image", data={"path": "data"}, gates=gates, proof=ProofBrief(looks=looks, **proof))
    return gate_power(brief, facts, decide(facts, cards=refusals.built_cards()), None, item)


def test_of_large_images_the_unseen_gate_is_told_by_2000_references_and_few_samples() -> None:
    first, unseen, short = said(128, looks=5)
    assert first.startswith("with 5,000 held-out items")
    assert unseen.startswith("with 2,000 held-out items")
    assert "the 2,000 samples limit that, and no more are judged by" in short
    assert "proof.looks" not in short
    given = said(128, looks=5, network="networks/a.pt", sha256="0" * 64)
    assert "the 4,000 samples limit that, and no more are judged by" in given[2], "a file of the brief is asked of more"
    assert said(512, image_item(40, 512, 3), looks=5)[2] == said(64, looks=5)[2], "by the shorter side, once it is known"


@pytest.mark.parametrize("side", [28, 31])
def test_of_small_images_both_are_told_by_the_same_counts(side) -> None:
    assert said(side)[1].startswith("with 5,000 held-out items")
    assert "add data" not in said(side)[2], "5,000 held-out items are all that is looked at"


def test_it_is_said_without_torch() -> None:
    program = "import sys; from components.core.modality import find_modality as f; f('image').asked_of_unseen(64, given=False); "
    subprocess.run([sys.executable, "-c", program + "assert not {'torch', 'numpy'} & {*sys.modules}"], check=True)
