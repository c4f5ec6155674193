"""What the gate can tell apart, and what it says of that before anything is trained."""

import math

import numpy as np
import pytest

from components.core.modality import find_modality
from components.core.proof_items import Asked
from components.core.records import Metric
from components.evaluation.definitions import gates
from components.evaluation.gates import judge
from components.evaluation.power import (
    ALIKE,
    EQUALS_PASS,
    FAIL_ERROR,
    MARGIN,
    MEASURED,
    PASS_ERROR,
    POWER,
    REPRESENTATIONS,
    Spread,
    end_scores,
    equals_margin,
    foretold,
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


def share_failed(ratio: float, spread: Spread, *, margin: float, looks: int, trials: int = 1500) -> float:
    """Of releases of this true ratio, by the verdict of the gate itself, look by look."""
    gate, rng, fails = gates()["distance_ratio_max"], np.random.default_rng(0), 0
    by_real, by_samples = ALIKE * spread.by_real, math.sqrt(2) * spread.by_samples
    drawn = np.array([1 << look for look in range(looks)])
    new = np.sqrt(np.diff(drawn, prepend=0) * drawn[-1])
    for _ in range(trials):
        x = math.log(ratio) + by_real * rng.standard_normal() + by_samples * (rng.standard_normal(looks) * new).cumsum() / drawn
        for look in range(looks):
            (low, high), s = end_scores(look=look, looks=looks), math.hypot(by_real, by_samples * 2 ** ((looks - 1 - look) / 2))
            ends = {"low": math.exp(x[look] - low * s), "high": math.exp(x[look] + high * s)}
            verdict = judge(gate, Metric(value=math.exp(x[look]), n=1, **ends), margin).verdict
            if not ends["low"] <= margin < ends["high"]:
                break
        fails += verdict == "fail"
    return fails / trials


@pytest.mark.parametrize(
    ("reference", "samples", "looks", "margin"),
    [(359, 32_000, 5, 1.5), (359, 8000, 3, 1.25), (5000, 8000, 3, 1.25), (359, 2000, 1, 0.9), (100_000, 8000, 3, 1.5)],
)
def test_the_gate_fails_what_is_told_apart_4_times_in_5(reference, samples, looks, margin) -> None:
    """What is surely worse and within a wide margin passes or is undecided, so the margin counts, too. Some pass at a look before
    the last."""
    spread = Spread.usual(reference=reference, samples=samples)
    told = told_apart(spread, margin=margin, alike=True, looks=looks)
    assert share_failed(told, spread, margin=margin, looks=looks) == pytest.approx(POWER, abs=0.06)


def test_the_usual_margin_is_that_of_both_gates() -> None:
    assert {gates()[gate].default for gate in MEASURED} == {MARGIN}


def test_a_scorecard_tells_by_the_margin_of_the_brief() -> None:
    told = {
        margin: foretold(SPREAD, margin=margin, looks=3, reference=360, samples=8000)["ratio_told"].value
        for margin in (1.25, 2.0)
    }
    assert told[2.0] > 1.5 > told[1.25]


def test_a_ratio_told_apart_fails_as_often_as_is_said() -> None:
    """At one look: the lower end of the interval of a ratio R lies beyond 1 with POWER, and of 1 with FAIL_ERROR."""
    from statistics import NormalDist

    error, chance = SPREAD.of_ratio(alike=True), NormalDist()
    low, high = end_scores(look=0, looks=1)
    told, margin = told_apart(SPREAD, margin=1.0, alike=True, looks=1), equals_margin(SPREAD, alike=True, looks=1)
    assert 1 - chance.cdf(low - math.log(told) / error) == pytest.approx(POWER)
    assert 1 - chance.cdf(low) == pytest.approx(FAIL_ERROR / REPRESENTATIONS), "a failure on either is one"
    assert 1 - chance.cdf(math.log(margin) / error - high) == pytest.approx((1 - EQUALS_PASS) / REPRESENTATIONS)
    assert 1 - chance.cdf(high) == pytest.approx(PASS_ERROR)


def test_more_references_more_samples_and_fewer_looks_tell_more_apart() -> None:
    few = Spread.usual(reference=360, samples=8000)

    def told(spread: Spread, *, alike: bool = True, looks: int = 3) -> float:
        return told_apart(spread, margin=1.25, alike=alike, looks=looks)

    assert told(Spread.usual(reference=1440, samples=8000)) < told(few)
    assert told(Spread.usual(reference=360, samples=32_000)) < told(few)
    assert told(few, looks=1) < told(few) < told(few, alike=False)
    assert told(Spread.usual(reference=2, samples=2), alike=False) == 100, "beyond it no number is told"


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
    more = sentences(metrics | unseen, **asked | {"samples": 16_000, "unseen": Asked(samples=8000)})
    assert "1.37 times" in more[1], "some networks are asked of no more samples than they were"


def test_what_limits_it_is_named() -> None:
    def remedy(*, reference: int, samples: int, looks: int = 3, margin: float = 1.1) -> str:
        return sentences(None, margins={"distance_ratio_max": margin}, reference=reference, samples=samples, looks=looks)[1]

    assert "the 2,000 samples limit that: set proof.looks to 4, which doubles them, or set it to" in remedy(
        reference=5000, samples=2000
    )
    assert "add data, a fifth of which is held out, or set it to" in remedy(reference=100, samples=8000)
    assert "the 2,000 samples limit that, and no more are judged by: set it to" in remedy(
        reference=5000, samples=2000, looks=6
    ), "there are no more looks, and held-out items do not limit it"
    assert "the 5,000 held-out items limit that, and no more are judged by: set it to" in remedy(
        reference=5000, samples=128_000, margin=1.03
    )


def test_what_the_unseen_gate_tells_is_by_what_its_network_is_asked() -> None:
    def told(margin: float, *, looks: int = 3, side: int = 128) -> tuple[str, ...]:
        margins = {"distance_ratio_max": 1.5, "heldout_ratio_max": margin}
        asked = find_modality("image").asked_of_unseen(side, given=False)
        return sentences(None, margins=margins, reference=5000, samples=2000 << (looks - 1), looks=looks, unseen=asked)

    first, unseen, short = told(1.15)
    assert first.startswith("with 5,000 held-out items")
    assert unseen.startswith("with 2,000 held-out items")
    assert "on features that only the proof sees" in unseen
    assert "gates.heldout_ratio_max is 1.15: the 2,000 samples limit that, and no more are judged by: set it to 1." in short
    assert "proof.looks" not in told(1.15, looks=5)[-1], "more looks ask it nothing more"
    assert "the 2,000 samples limit that: set proof.looks to 2" in told(1.15, looks=1, side=64)[-1], "of 4,000 at most"
    assert len(told(1.5, side=28)) == 1, "below 32 pixels as much as the first"


def test_more_samples_than_an_unseen_network_is_asked_do_not_narrow_what_was_measured() -> None:
    metrics = {
        "heldout_error_by_real": Metric(value=0.02, low=0.02, high=0.02, n=2000),
        "heldout_error_by_samples": Metric(value=0.06, low=0.06, high=0.06, n=4000),
    }
    asked = {"margins": {"heldout_ratio_max": 1.25}, "reference": 5000, "looks": 3, "unseen": Asked(real=2000, samples=4000)}
    known = {samples: sentences(metrics, samples=samples, **asked) for samples in (4000, 8000, 64_000)}
    assert known[4000] == known[8000] == known[64_000]
    assert "no more are judged by: set it to" in known[8000][1]
