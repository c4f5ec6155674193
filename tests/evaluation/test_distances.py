import numpy as np
import pytest
from scipy.linalg import sqrtm

from components.evaluation.bootstrap import Bootstrap
from components.evaluation.distances import Gaussian, frechet, frechet_resampled, ratio
from components.evaluation.metrics.kid import kid

BOOT = Bootstrap(seed=0, resamples=100)


def normal(n: int, d: int, *, seed: int, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (n, d))


def test_frechet_of_known_gaussians_has_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    a, b = (m @ m.T + np.eye(5) for m in rng.normal(size=(2, 5, 5)))
    shift = rng.normal(size=5)
    ga, gb = (Gaussian(mean, cov, np.real(sqrtm(cov))) for mean, cov in ((np.zeros(5), a), (shift, b)))
    expected = shift @ shift + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet(ga, gb) == pytest.approx(expected, rel=1e-9)
    assert frechet(gb, ga) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_commuting_gaussians_is_the_difference_of_deviations() -> None:
    means, deviations = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[1.0, 3.0], [2.0, 0.5]])
    a, b = (Gaussian(m, np.diag(s**2), np.diag(s)) for m, s in zip(means, deviations, strict=True))
    assert frechet(a, b) == pytest.approx(4 + 4 + 1 + 6.25)


def test_frechet_of_a_set_with_itself_is_nothing_even_when_singular() -> None:
    few = normal(10, 64, seed=1)
    assert frechet(Gaussian.of(few), Gaussian.of(few)) == pytest.approx(0, abs=1e-6)


def test_frechet_grows_with_shift_and_with_scale() -> None:
    real = Gaussian.of(normal(2000, 8, seed=2))
    shifted = [frechet(real, Gaussian.of(normal(2000, 8, seed=3, mean=m))) for m in (0, 0.2, 0.5, 1)]
    scaled = [frechet(real, Gaussian.of(normal(2000, 8, seed=3, scale=s))) for s in (1, 1.5, 2, 4)]
    assert shifted == sorted(shifted)
    assert scaled == sorted(scaled)
    assert shifted[-1] == pytest.approx(8, rel=0.1)


def test_the_spread_of_resamples_is_the_spread_of_new_samples() -> None:
    """The law that the intervals rest on: neither much too narrow nor much too wide."""
    drawn, told = [], []
    for trial in range(60):
        ours = normal(400, 16, seed=100 + trial, mean=0.2, scale=0.9)
        real = normal(300, 16, seed=900 + trial)
        values = frechet_resampled(ours, real, BOOT, real=Gaussian.of(real))
        drawn.append(values[0])
        told.append(values[1:].std())
    assert 0.9 <= np.mean(told) / np.std(drawn) <= 1.7


def test_a_resample_of_a_larger_set_keeps_the_value_in_the_middle() -> None:
    real, ours = normal(300, 16, seed=4), normal(300, 16, seed=5, mean=0.3)
    values = frechet_resampled(ours, real, BOOT, real=Gaussian.of(real))
    assert values[1:].mean() == pytest.approx(values[0], rel=0.05)


def test_the_ratio_of_a_set_with_itself_is_one_and_certain() -> None:
    real, ours = normal(300, 16, seed=4), normal(300, 16, seed=5, mean=0.3)
    values = frechet_resampled(ours, real, BOOT, real=Gaussian.of(real))
    same = ratio(values, values, BOOT, n=300)
    assert (same.value, same.low, same.high) == (1, 1, 1)
    nothing = np.zeros(101)
    assert ratio(nothing, nothing, BOOT, n=300).value == 1


def test_kid_is_unbiased_about_zero_for_one_distribution_and_positive_for_two() -> None:
    same = [kid(normal(80, 8, seed=s), normal(60, 8, seed=500 + s), Bootstrap(0, 2)).value for s in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert min(same) < 0  # a biased estimate never is
    other = kid(normal(300, 8, seed=1, mean=0.5), normal(300, 8, seed=2), BOOT)
    assert other.low > 0


def test_kid_equals_the_sum_written_out() -> None:
    x, y = normal(7, 3, seed=1), normal(5, 3, seed=2)
    k = lambda a, b: (a @ b / 3 + 1) ** 3  # noqa: E731
    within = [np.mean([k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j]) for a in (x, y)]
    across = np.mean([k(a, b) for a in x for b in y])
    assert kid(x, y, BOOT).value == pytest.approx(sum(within) - 2 * across)
