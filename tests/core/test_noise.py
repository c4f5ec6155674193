"""Noise: each item from its own seed, whatever it is drawn with; the values are pinned for ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.noise import SEED_LIMIT, NoiseInput, draw

NORMAL = NoiseInput(name="z", shape=(2, 3))
UNIFORM = NoiseInput(name="u", shape=(4,), distribution="uniform")
seeds = st.lists(st.integers(0, SEED_LIMIT - 1), min_size=1, max_size=6)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(seeds, seeds)
def test_an_item_depends_on_its_seed_alone(some: list[int], others: list[int]) -> None:
    alone, together = draw([NORMAL, UNIFORM], some), draw([NORMAL, UNIFORM], [*others, *some])
    for name in ("z", "u"):
        assert np.array_equal(alone[name], together[name][len(others) :])


def test_shapes_and_types() -> None:
    drawn = draw([NORMAL, UNIFORM, NoiseInput(name="scalar", shape=())], [1, 2, 3])
    assert {name: (x.shape, x.dtype) for name, x in drawn.items()} == {
        "z": ((3, 2, 3), np.float32),
        "u": ((3, 4), np.float32),
        "scalar": ((3,), np.float32),
    }
    assert draw([NORMAL], [])["z"].shape == (0, 2, 3)


def test_values_are_pinned() -> None:
    """A bundle's images are promised by seed: these numbers must never change."""
    drawn = draw([NoiseInput(name="z", shape=(3,)), NoiseInput(name="u", shape=(2,), distribution="uniform")], [0, 1, 2**63 - 1])
    assert drawn["z"].tobytes().hex() == "4665753dd6ed7e3c520c95bf78bc8b3f1e62e93e7ea8333f84ad733f67e481bffa5a993f"
    assert drawn["u"].tobytes().hex() == "d1a1793ff837503f78d25a3ed8e8993d85c37a3fb025b63d"
    assert np.allclose(drawn["z"][0], [0.0599, 0.0156, -1.1644], atol=1e-4)


def test_different_inputs_of_one_item_differ() -> None:
    drawn = draw([NORMAL, NORMAL.model_copy(update={"name": "z2"})], [5])
    assert not np.any(drawn["z"] == drawn["z2"])


def test_distributions() -> None:
    big = draw([NoiseInput(name="z", shape=(1000,)), NoiseInput(name="u", shape=(1000,), distribution="uniform")], range(200))
    z, u = big["z"].astype(np.float64), big["u"].astype(np.float64)
    n = z.size  # 200,000: the bounds are five standard errors
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert 0 <= u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(u.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    neighbours = np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1]  # seeds k and k + 1
    assert abs(neighbours) < 5 / n**0.5


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_outside_the_range_are_not_wrapped(seed: int) -> None:
    with pytest.raises(OverflowError):
        draw([NORMAL], [seed])
