"""A large split is scored in the memory that a small one takes: nothing but an index and a label an item is held."""

import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from specs import image_item

from components.evaluation.score import score


@dataclass
class Mapped:
    """Items in a file, of which those are read that are taken."""

    file: np.memmap
    labels: np.ndarray

    @property
    def item(self) -> Any:
        return image_item(8, 8, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return np.array(self.file[indices])


@pytest.fixture(scope="module")
def many(request: pytest.FixtureRequest, digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapped:
    """Real digits with a little noise, so that no two are the same."""
    path: Path = tmp_path_factory.mktemp("many") / "items.npy"
    items = request.param
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(items, 8, 8, 1))
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(digits.train), size=items)
    for at in range(0, items, 50_000):
        noisy = digits.train.images[chosen[at : at + 50_000]] + rng.integers(0, 40, (50_000, 8, 8, 1), np.uint8)
        file[at : at + 50_000] = np.where(noisy < digits.train.images[chosen[at : at + 50_000]], 255, noisy)
    file.flush()
    return Mapped(np.load(path, mmap_mode="r"), digits.train.labels[chosen])


def peak_mb(split: Mapped, fitted: Any, **given: Any) -> float:
    tracemalloc.start()
    try:
        scorecard = score(fitted(8, seed=1), train=split, reference=split, samples=64, **given)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
        assert scorecard.metrics["memorised"].n == 64


@pytest.mark.parametrize(
    "many",
    [pytest.param(100_000, marks=pytest.mark.slow), pytest.param(1_000_000, marks=pytest.mark.nightly)],
    indirect=True,
)
def test_many_items_take_no_more_memory_than_fifty_thousand(many: Mapped, digits: Any, extractor: Any, fitted: Any) -> None:
    few = Mapped(many.file[:50_000], many.labels[:50_000])
    given = {"dataset": digits.dataset, "extractor": extractor}
    small, large = (peak_mb(split, fitted, **given) for split in (few, many))
    # An order of places, 8 bytes each, and what is there twice for a moment; an item has 64 bytes, as a vector 256.
    assert large < small + 8 + 16 * len(many) / 2**20, f"{small:.0f} and {large:.0f} MB"
