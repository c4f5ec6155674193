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
        "ratio_told": Metric(value=1.3, low=1.3, high=2.0, n=360),
        "equals_margin": Metric(value=1.4, low=1.4, high=2.1, n=360),
    }
    first, second = sentences(metrics, **asked)
    assert "1.30 times as far" in first
    assert "as measured on the champion" in first
    assert "gates.distance_ratio_max is 1.25: add data, a fifth of which is held out, or set it to 1.40" in second
    assert len(sentences(metrics, **asked | {"margins": dict.fromkeys(margins, 1.5)})) == 1, "a wider margin is met"
    assert sentences(metrics, **asked | {"margins": dict.fromkeys(margins)}) == ()
    unseen = {"heldout_told": Metric(value=1.5, low=1.5, high=2.5, n=360)}
    unseen |= {"heldout_equals_margin": Metric(value=1.6, low=1.6, high=2.6, n=360)}
    _, second, third = sentences(metrics | unseen, **asked)
    assert "1.50 times as far from the data as its champion on features that only the proof sees fails" in second
    assert "gates.heldout_ratio_max is 1.25: add data" in third
    assert third.endswith("or set it to 1.60, gates.distance_ratio_max to 1.40")
    (only, _) = sentences(metrics, **asked | {"margins": {"distance_ratio_max": None, "heldout_ratio_max": 1.25}})
    assert "on features that only the proof sees" in only


def test_what_limits_it_is_named() -> None:
    (_, slow), (_, few) = (
        sentences(None, margins={"distance_ratio_max": 1.25}, reference=n, samples=s, looks=3)
        for n, s in ((5000, 2000), (100, 8000))
    )
    assert "the 2,000 samples of a sampler of many steps limit that: take fewer steps, or set it to" in slow
    assert "add data, a fifth of which is held out, or set it to" in few
