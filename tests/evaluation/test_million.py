"""A split of a million items is scored in the memory that a small one takes: nothing but an index and a label an item is held."""

import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from specs import image_item

from components.evaluation.score import score

ITEMS = 1_000_000


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
def million(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapped:
    """Real digits with a little noise, so that no two are the same."""
    path: Path = tmp_path_factory.mktemp("million") / "items.npy"
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(ITEMS, 8, 8, 1))
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(digits.train), size=ITEMS)
    for at in range(0, ITEMS, 50_000):
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


@pytest.mark.slow
def test_a_million_items_take_no_more_memory_than_fifty_thousand(
    million: Mapped, digits: Any, extractor: Any, fitted: Any
) -> None:
    few = Mapped(million.file[:50_000], million.labels[:50_000])
    given = {"dataset": digits.dataset, "extractor": extractor}
    small, large = (peak_mb(split, fitted, **given) for split in (few, million))
    assert large < small + 24, (
        f"{small:.0f} and {large:.0f} MB"
    )  # an order of places, 8 bytes each; the items are 64 MB, as vectors 256
