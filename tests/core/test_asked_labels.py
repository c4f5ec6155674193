"""Labels in the proportions of data."""

import numpy as np
import pytest

from components.core.asked_labels import labels_like
from components.core.errors import InputError

IMBALANCED = np.array([900, 60, 25, 10, 5, 0])


def test_the_labels_have_the_shares_of_the_data_at_every_number() -> None:
    for seed in range(20):
        labels = labels_like(IMBALANCED, 2000, seed=seed)
        for n in (50, 360, 2000):
            apart = np.bincount(labels[:n], minlength=6) - n * IMBALANCED / IMBALANCED.sum()
            assert np.abs(apart).max() < 3, f"seed {seed}, {n} labels: {apart}"  # independent draws: a deviation of 13 at 2,000


def test_a_rare_class_is_asked_for_as_often_over_many_seeds() -> None:
    shares = np.mean([np.bincount(labels_like([97, 2, 1], 30, seed=seed), minlength=3) / 30 for seed in range(2000)], axis=0)
    assert np.abs(shares - [0.97, 0.02, 0.01]).max() < 0.002


def test_label_k_depends_on_the_seed_and_not_on_how_many_there_are() -> None:
    labels = labels_like(IMBALANCED, 1000, seed=3)
    assert all((labels_like(IMBALANCED, n, seed=3) == labels[:n]).all() for n in (1, 7, 57, 640))
    assert (labels_like(IMBALANCED, 1000, seed=4) != labels).any()


def test_classes_of_equal_share_come_in_rounds() -> None:
    assert (np.sort(labels_like([7] * 10, 1000, seed=1).reshape(100, 10)) == np.arange(10)).all()


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1], [1, float("nan")]])
def test_counts_that_are_none_are_refused(counts: list[float]) -> None:
    with pytest.raises(InputError, match="counts of classes"):
        labels_like(counts, 5, seed=0)
