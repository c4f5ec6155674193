"""Measured scorecards outrank the priors among what the hard constraints and the goal leave, and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from components.core.card import Card
from components.core.records import Decision, Facts
from components.policy.decide import decide
from components.policy.evidence import Evidence

Weighed = Callable[..., Decision]


@pytest.fixture
def weighed(facts_of: Callable[..., Facts], cards: dict[tuple[str, str], Card]) -> Weighed:
    def run(scorecards: Sequence[Evidence], **changes: Any) -> Decision:
        return decide(facts_of(**changes), cards=cards, scorecards=scorecards)

    return run


def measured(family: str, variant: str, fd: float, **changes: Any) -> Evidence:
    plain: dict[str, Any] = {
        "family": family, "variant": variant, "modality": "image", "side": 32, "tier": "small", "fd": fd, "fd_low": fd - 1,
        "fd_high": fd + 1, "protocol": "p1", "source": f"run-{variant}",
    }  # fmt: skip
    return Evidence(**{**plain, **changes})


EDM, SNGAN = measured("diffusion", "edm", 20), measured("gan", "sngan", 10)


def rules(decision: Decision) -> set[str]:
    return {reason.rule for reason in decision.reasons}


def test_what_is_measured_better_is_chosen_and_says_so(weighed: Weighed) -> None:
    decision = weighed([EDM, SNGAN], goal="quality")
    assert (decision.family, decision.variant, decision.delivery) == ("gan", "sngan", "one_pass")
    reason = next(reason for reason in decision.reasons if reason.rule == "evidence.measured")
    assert reason.text.startswith("measured: ")
    assert "run-sngan" in reason.source
    assert next(row for row in decision.rejected if row.family == "diffusion").text.startswith("measured: ")
    assert decision.overridden is None


def test_order_does_not_matter(weighed: Weighed) -> None:
    assert weighed([EDM, SNGAN], goal="quality") == weighed([SNGAN, EDM], goal="quality")


def test_another_variant_of_the_same_family(weighed: Weighed) -> None:
    decision = weighed([EDM, measured("diffusion", "ddpm", 5)], goal="quality")
    assert (decision.family, decision.variant) == ("diffusion", "ddpm")
    assert "diffusion" not in {row.family for row in decision.rejected}


def test_a_confirmed_prior_says_measured(weighed: Weighed) -> None:
    decision = weighed([EDM, measured("gan", "sngan", 40)], goal="quality")
    assert decision.family == "diffusion"
    assert any(reason.text.startswith("measured: ") for reason in decision.reasons)


def test_overlapping_intervals_decide_nothing(weighed: Weighed) -> None:
    decision = weighed([EDM, measured("gan", "sngan", 19)], goal="quality")
    assert decision.family == "diffusion"
    assert "evidence.undecided" in rules(decision)


def test_a_choice_that_was_not_measured_stands(weighed: Weighed) -> None:
    decision = weighed([SNGAN], goal="quality")
    assert decision.family == "diffusion"
    assert "evidence.incomplete" in rules(decision)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"protocol": "another"}, {"goal": "quality"}),
        ({"modality": "video"}, {"goal": "quality"}),
        ({"side": 128}, {"goal": "quality"}),
        ({"tier": "large"}, {"goal": "quality"}),
        ({"mode": "finetune"}, {"goal": "quality"}),
        ({}, {"goal": "stability"}),  # a goal that never takes a GAN
        ({}, {"goal": "diversity"}),
    ],
)
def test_what_cannot_be_compared_or_is_ruled_out_does_not_count(
    weighed: Weighed, changes: dict[str, Any], facts: dict[str, Any]
) -> None:
    decision = weighed([EDM, SNGAN.model_copy(update=changes)], **facts)
    assert decision.family == "diffusion"


def test_evidence_never_breaks_a_hard_constraint(weighed: Weighed) -> None:
    scorecards = [measured("autoregressive", "pixelcnn-pp", 30), measured("gan", "sngan", 1), measured("flow", "glow", 25)]
    assert weighed(scorecards, goal="likelihood").family == "flow"
