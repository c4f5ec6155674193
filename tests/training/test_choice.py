"""Which of the readings of a training is kept: no gift of chance, and nothing that has become worse."""

from itertools import pairwise

import numpy as np
import pytest

from components.core.records import Reading
from components.training.choice import is_better, is_worse, kept

READ, SAMPLES = 6, 128


def reading(values_N: np.ndarray, **more: float | str) -> Reading:
    """A distance that is a mean over the samples: its influence is what each has above that."""
    return Reading(distance=float(values_N.mean()), influence=tuple(values_N - values_N.mean()), **more)


def trainings(truth: list[float], *, shared: float, runs: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """What is kept of so many trainings, and how far its reading lies from the truth, in standard errors. `shared`: the share of
    the samples' variance that the readings of one training have in common, by their common noise."""
    rng = np.random.default_rng(0)
    chosen, errors = [], []
    for _ in range(runs):
        common_N, own_RN = rng.standard_normal(SAMPLES), rng.standard_normal((READ, SAMPLES))
        values_RN = np.array(truth)[:, None] * SAMPLES**-0.5 + shared**0.5 * common_N + (1 - shared) ** 0.5 * own_RN
        place = kept([reading(values_N) for values_N in values_RN])
        chosen.append(place)
        errors.append(values_RN[place].mean() * SAMPLES**0.5 - truth[place])
    return np.array(chosen), np.array(errors)


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_of_readings_that_are_alike_the_last_is_kept_and_reads_as_it_is(shared: float) -> None:
    """The lowest of six alike reads 1.27 standard errors too low (of independent ones)."""
    chosen, errors = trainings([0.0] * READ, shared=shared)
    assert (chosen == READ - 1).mean() > 0.85
    assert abs(errors.mean()) < 0.35


@pytest.mark.parametrize(("shared", "worse"), [(0.0, 6.0), (0.9, 2.0)])
def test_what_has_become_worse_is_not_kept(shared: float, worse: float) -> None:
    """By standard errors of one reading: a difference of two on the same noise has less."""
    chosen, _ = trainings([9.0, 3.0, 0.0, 0.0, worse, worse], shared=shared)
    assert np.isin(chosen, [2, 3]).mean() > 0.95


def test_many_small_steps_down_are_one_large_one() -> None:
    values_N = np.random.default_rng(0).standard_normal(SAMPLES)
    own_RN = 0.3 * np.random.default_rng(1).standard_normal((READ, SAMPLES))
    own_RN -= own_RN.mean(1, keepdims=True)
    falling = [reading(values_N + own + 0.04 * step) for step, own in enumerate(own_RN)]
    assert not any(is_worse(now, before) for before, now in pairwise(falling))
    assert kept(falling) < READ - 1


def test_what_has_collapsed_is_worse_than_all_that_has_not() -> None:
    good, collapsed = Reading(distance=9.0), Reading(distance=1.0, collapse="the samples are alike")
    assert is_worse(collapsed, good)
    assert not is_worse(good, collapsed)
    assert is_better(good, collapsed)


@pytest.mark.parametrize(("rises", "wanted"), [((0.0, 0.0, 0.0), 3), ((0.0, 0.3, 0.6), 1), ((0.3, 0.0, 0.0), 3)])
def test_what_was_learnt_by_heart_is_not_kept_though_its_samples_lie_nearer(rises: tuple[float, ...], wanted: int) -> None:
    """The distance to training items falls all the while; the loss of held-out items rises or does not."""
    rng = np.random.default_rng(0)
    items_N = rng.standard_normal(32)
    held_out = [tuple(items_N + rise + 0.1 * rng.standard_normal(32)) for rise in (0.5, *rises)]
    readings = [Reading(distance=9.0 - at, held_out=losses) for at, losses in enumerate(held_out)]
    assert kept(readings) == wanted


def test_a_rise_above_chance_that_gives_back_little_is_no_learning_by_heart() -> None:
    """The same items at the same noise: two in a thousand are above chance."""
    items_N = np.random.default_rng(0).standard_normal(32)
    held_out = [tuple(items_N + mean) for mean in (0.30, 0.280, 0.281)]
    readings = [Reading(distance=9.0 - at, held_out=losses) for at, losses in enumerate(held_out)]
    assert kept(readings) == 2
    assert kept([*readings, Reading(distance=5.0, held_out=tuple(items_N + 0.286))]) == 2


def test_a_base_far_from_the_data_hides_no_learning_by_heart() -> None:
    """Its first loss is six times the lowest, as measured of an EDM on digits in black on white; a third of the samples of the
    fourth reading were copies."""
    chance = 0.01 * np.random.default_rng(0).standard_normal(32)
    means = (2.35, 0.39, 0.43, 0.63, 0.80)
    readings = [Reading(distance=9.0 - at, held_out=tuple(mean + chance)) for at, mean in enumerate(means)]
    assert kept(readings[:3]) == 2
    assert kept(readings) == 2
