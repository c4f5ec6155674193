"""Several splits read as one: what was not trained on is the reference of a proof."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from components.core.protocols import ItemSplit, Stored
from components.core.records import LocalDataset
from components.data.shards import open_split
from components.data.splits import Split

REFERENCE: tuple[Split, ...] = ("validation", "test")  # what a proof compares with: nothing here was trained on


class JoinedSplit:
    """An ItemSplit over others, in their order. `labels` is None when one of them has none."""

    def __init__(self, parts: Sequence[ItemSplit]) -> None:
        self._parts = parts
        self.item = parts[0].item
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        labels = [part.labels for part in parts]
        self.labels = (
            None if any(each is None for each in labels) else np.concatenate([each for each in labels if each is not None])
        )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        """The stored items at `indices`, [len(indices), *stored_shape]."""
        part_of = np.searchsorted(self._starts, indices, side="right") - 1
        items = np.empty((len(indices), *self.item.stored_shape), self.item.storage.dtype)
        for number, part in enumerate(self._parts):
            here = part_of == number
            if here.any():
                items[here] = part.take(indices[here] - self._starts[number])
        return items


def held_out(dataset: LocalDataset) -> ItemSplit:
    """The items of a dataset that were not trained on."""
    return JoinedSplit([open_split(dataset.path, split) for split in REFERENCE])
