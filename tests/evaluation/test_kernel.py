"""The kernel distance: no bias at any counts, errors that are as large as they are said to be, and the ratio's interval."""

import math

import numpy as np
import pytest

from components.evaluation.kernel import Distance, Kernel, Real, ratio_interval

D = 6


def normal(n: int, *, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, D)) + mean


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.of(normal(1000, seed=1))


def distance(kernel: Kernel, n: int, m: int, *, seed: int, mean: float = 0.0) -> tuple[Distance, Real]:
    real = Real.of(kernel, normal(m, seed=2 * seed))
    return Distance.of(normal(n, seed=2 * seed + 1, mean=mean), real), real


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 160), (160, 40)])
def test_equals_are_at_no_distance_whatever_the_counts(kernel, n, m) -> None:
    """A biased estimate would be above 0 by about 1/n + 1/m: more than 3 times what is allowed here."""
    values = [distance(kernel, n, m, seed=seed)[0].value for seed in range(60)]
    assert abs(np.mean(values)) < 3.5 * np.std(values) / math.sqrt(60) < 0.3 * (1 / n + 1 / m)


@pytest.mark.parametrize("mean", [0.15, 0.5])
def test_the_error_is_as_large_as_it_is_said_to_be(kernel, mean) -> None:
    found = [distance(kernel, 120, 80, seed=seed, mean=mean)[0] for seed in range(80)]
    said = math.sqrt(np.mean([each.covariance(each) for each in found]))
    assert 0.85 < said / np.std([each.value for each in found]) < 1.6, "never too small, at most as the jackknife is too large"


def test_real_items_are_seldom_beyond_the_floor(kernel) -> None:
    over = [found.value > real.floor for found, real in (distance(kernel, 2000, 60, seed=seed) for seed in range(40))]
    assert sum(over) <= 6
    assert distance(kernel, 40, 240, seed=0)[1].floor == pytest.approx(distance(kernel, 40, 60, seed=0)[1].floor / 4, rel=0.3)


def test_a_model_beside_itself_is_exactly_as_far(kernel) -> None:
    found, real = distance(kernel, 200, 100, seed=0, mean=0.5)
    assert ratio_interval(found, found, floor=real.floor, z=(2.0, 2.0)) == pytest.approx((1, 1, 1), abs=1e-6)


def test_the_shared_reference_makes_the_ratio_surer_than_either_distance(kernel) -> None:
    real = Real.of(kernel, normal(60, seed=0))
    a, b = (Distance.of(normal(2000, seed=seed, mean=0.5), real) for seed in (1, 2))
    _, low, high = ratio_interval(a, b, floor=real.floor, z=(2.0, 2.0))
    assert math.log(high / low) < 0.5 * 4 * math.sqrt(a.covariance(a)) / a.value


def test_the_interval_holds_the_true_ratio(kernel) -> None:
    pool = {mean: normal(40_000, seed=9, mean=mean) for mean in (0.0, 0.4, 0.5)}
    every = Real.of(kernel, pool[0.0])
    true = Distance.of(pool[0.5], every).value / Distance.of(pool[0.4], every).value
    held = 0
    for seed in range(60):
        real = Real.of(kernel, normal(80, seed=1000 + seed))
        a, b = (Distance.of(normal(300, seed=shift + seed, mean=mean), real) for shift, mean in ((2000, 0.5), (3000, 0.4)))
        _, low, high = ratio_interval(a, b, floor=real.floor, z=(1.645, 1.645))
        held += low <= true <= high
    assert 48 <= held <= 60


@pytest.mark.parametrize("mean", [0.0, 0.05])
def test_what_cannot_be_told_from_the_data_passes_beside_a_perfect_champion(kernel, mean) -> None:
    """Neither distance is surely above 0, so their ratio has no end; the floor has."""
    real = Real.of(kernel, normal(400, seed=0))
    a, b = (Distance.of(normal(4000, seed=seed, mean=mean), real) for seed in (1, 2))
    value, _, high = ratio_interval(a, b, floor=real.floor, z=(2.0, 1.645))
    assert 0 <= value <= high < math.inf


def of_moments(value: float, x: float, y: float) -> Distance:
    """A distance of variance x^2 + y^2; those of two have the covariance x x' + y y'."""
    root = math.sqrt(3)
    return Distance(value, np.zeros(2), np.array([root * x + y, y - root * x, -2 * y]))


def share_passed(*, above: float, below: float, alike: float, trials: int = 2000) -> float:
    """How often two distances, in floors, have a ratio that is surely at most 1.25. Their errors are those of 360 held-out items,
    and `alike` is their correlation."""
    rng, passed = np.random.default_rng(0), 0
    ours, theirs = (math.hypot(0.5, 0.13 * each) for each in (above, below))
    own = ours * alike, ours * math.sqrt(1 - alike**2)
    for g, h in rng.standard_normal((trials, 2)).tolist():
        a, b = of_moments(above + own[0] * g + own[1] * h, *own), of_moments(below + theirs * g, theirs, 0.0)
        passed += ratio_interval(a, b, floor=1.0, z=(2.81, 1.645))[2] <= 1.25
    return passed / trials


def test_moments_are_as_given() -> None:
    a, b = of_moments(1.0, 0.3, 0.4), of_moments(1.0, 0.5, 0.0)
    assert (a.covariance(a), a.covariance(b)) == pytest.approx((0.25, 0.15))


@pytest.mark.parametrize("alike", [0.0, 0.9])
@pytest.mark.parametrize("floors", [0.5, 1, 1.5, 2, 4])
def test_beside_a_champion_near_the_floor_too_what_is_at_the_margin_passes_1_time_in_20(floors, alike) -> None:
    """The smaller of two upper ends of the whole error each let 8 to 10 in 100 pass at the floor."""
    assert share_passed(above=1.25 * max(1, floors), below=floors, alike=alike) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("floors", "least"), [(0, 0.68), (0.5, 0.32), (1, 0.17), (2, 0.36), (4, 0.76)])
def test_beside_a_champion_near_the_floor_equals_still_pass(floors, least) -> None:
    assert share_passed(above=floors, below=floors, alike=0.9, trials=1000) >= least


def test_dimensions_that_do_not_vary_and_features_all_alike_are_borne() -> None:
    flat = np.hstack([normal(100, seed=0), np.ones((100, 2))])
    assert np.isfinite(Distance.of(flat, Real.of(Kernel.of(flat), flat[:50])).value)
    same = np.ones((50, 3))
    assert Distance.of(same, Real.of(Kernel.of(same), same)).value == pytest.approx(0, abs=1e-6)
