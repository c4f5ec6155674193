"""What the gate can tell apart, and what it says of that before anything is trained."""

import math

import pytest

from components.core.records import Metric
from components.evaluation.power import (
    EQUALS_PASS,
    FAIL_ERROR,
    PASS_ERROR,
    POWER,
    REPRESENTATIONS,
    Spread,
    end_scores,
    equals_margin,
    sentences,
    share_spent,
    told_apart,
)

SPREAD = Spread(by_real=0.12, by_samples=0.03)


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_the_looks_together_spend_the_errors_and_no_more(looks) -> None:
    assert sum(share_spent(look=each, looks=looks) for each in range(looks)) == pytest.approx(1)
    ends = [end_scores(look=each, looks=looks) for each in range(looks)]
    assert ends == sorted(ends, reverse=True), "later looks see more and may say more"


def test_a_ratio_told_apart_fails_as_often_as_is_said() -> None:
    """At one look: the lower end of the interval of a ratio R lies beyond 1 with POWER, and of 1 with FAIL_ERROR."""
    from statistics import NormalDist

    error, chance = SPREAD.of_ratio(alike=True), NormalDist()
    low, high = end_scores(look=0, looks=1)
    told, margin = told_apart(SPREAD, alike=True, looks=1), equals_margin(SPREAD, alike=True, looks=1)
    assert 1 - chance.cdf(low - math.log(told) / error) == pytest.approx(POWER)
    assert 1 - chance.cdf(low) == pytest.approx(FAIL_ERROR / REPRESENTATIONS), "a failure on either is one"
    assert 1 - chance.cdf(math.log(margin) / error - high) == pytest.approx((1 - EQUALS_PASS) / REPRESENTATIONS)
    assert 1 - chance.cdf(high) == pytest.approx(PASS_ERROR)


def test_more_references_more_samples_and_fewer_looks_tell_more_apart() -> None:
    few = Spread.usual(reference=360, samples=8000)
    assert told_apart(Spread.usual(reference=1440, samples=8000), alike=True, looks=3) < told_apart(few, alike=True, looks=3)
    assert told_apart(Spread.usual(reference=360, samples=32_000), alike=True, looks=3) < told_apart(few, alike=True, looks=3)
    assert told_apart(few, alike=True, looks=1) < told_apart(few, alike=True, looks=3) < told_apart(few, alike=False, looks=3)
    assert told_apart(Spread.usual(reference=2, samples=2), alike=False, looks=3) == 100, "beyond it no number is told"


def test_what_is_measured_on_the_champion_is_said_where_it_is_known() -> None:
    margins = {"distance_ratio_max": 1.25, "heldout_ratio_max": 1.25}
    asked = {"margins": margins, "reference": 360, "samples": 8000, "looks": 3}
    usual = sentences(None, **asked)
    assert "with 360 held-out items" in usual[0]
    assert "nothing was measured on this data yet" in usual[0]
    metrics = {
        "error_by_real": Metric(value=0.1, low=0.1, high=0.1, n=360),
        "error_by_samples": Metric(value=0.05, low=0.05, high=0.05, n=8000),
    }
    first, second = sentences(metrics, **asked)
    assert "1.33 times as far" in first
    assert "as measured on the champion" in first
    assert "gates.distance_ratio_max is 1.25: the 8,000 samples limit that: set proof.looks to 4, which doubles them" in second
    assert "passes a margin of 1.35 19 times in 20" in second
    again = sentences(metrics, **asked | {"samples": 16_000, "looks": 4})
    assert "1.24 times as far" in again[0], "what it tells follows the counts that are asked for"
    assert len(sentences(metrics, **asked | {"margins": dict.fromkeys(margins, 1.5)})) == 1, "a wider margin is met"
    assert sentences(metrics, **asked | {"margins": dict.fromkeys(margins)}) == ()
    unseen = {
        "heldout_error_by_real": Metric(value=0.15, low=0.15, high=0.15, n=360),
        "heldout_error_by_samples": Metric(value=0.05, low=0.05, high=0.05, n=8000),
    }
    _, second, third = sentences(metrics | unseen, **asked)
    assert "1.37 times as far from the data as its champion on features that only the proof sees fails" in second
    assert "gates.heldout_ratio_max is 1.25: the 8,000 samples limit that" in third
    assert third.endswith("or set it to 1.40, gates.distance_ratio_max to 1.35")
    (only, _) = sentences(metrics | unseen, **asked | {"margins": {"distance_ratio_max": None, "heldout_ratio_max": 1.25}})
    assert "on features that only the proof sees" in only
    more = sentences(metrics | unseen, **asked | {"samples": 16_000})
    assert "1.37 times" in more[1], "some networks are asked of no more samples than they were"


def test_what_limits_it_is_named() -> None:
    def remedy(*, reference: int, samples: int, looks: int = 3) -> str:
        return sentences(None, margins={"distance_ratio_max": 1.1}, reference=reference, samples=samples, looks=looks)[1]

    assert "the 2,000 samples limit that: set proof.looks to 4, which doubles them, or set it to" in remedy(
        reference=5000, samples=2000
    )
    assert "add data, a fifth of which is held out, or set it to" in remedy(reference=100, samples=8000)
    assert "add data, a fifth of which is held out" in remedy(reference=5000, samples=2000, looks=6), "there are no more looks"
