"""Several splits read as one: what was not trained on is the reference of a proof."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.protocols import CaptionedSplit, ItemSplit
from components.core.records import LocalDataset
from components.core.records.condition import taken
from components.data.shards import open_split
from components.data.splits import Split

REFERENCE: tuple[Split, ...] = ("validation", "test")  # what a proof compares with: nothing here was trained on


class JoinedSplit:
    """A CaptionedSplit over others, in their order. `labels` and `captions` are None when one of them has none."""

    def __init__(self, parts: Sequence[ItemSplit]) -> None:
        self._parts = parts
        self.item = parts[0].item
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        labels = [part.labels for part in parts]
        self.labels = (
            None if any(each is None for each in labels) else np.concatenate([each for each in labels if each is not None])
        )

    @cached_property
    def captions(self) -> tuple[tuple[str, ...], ...] | None:
        """What is said of each item."""
        of_parts = [getattr(part, "captions", None) for part in self._parts]
        known = [each for each in of_parts if each is not None]
        return tuple(said for each in known for said in each) if len(known) == len(of_parts) else None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        """The stored items at `indices`, [len(indices), *stored_shape]."""
        items = np.empty((len(indices), *self.item.stored_shape), self.item.storage.dtype)
        for part, here, own in self._of_parts(indices):
            items[here] = part.take(own)
        return items

    def take_condition(self, indices: npt.NDArray[np.int64], *, epoch: int = 0) -> npt.NDArray[Any]:
        """What the items at `indices` are asked for by. Raises DataError where a part does not hold it."""
        found = [(here, taken(part, own, epoch=epoch)) for part, here, own in self._of_parts(indices)]
        rows = np.empty((len(indices), *found[0][1].shape[1:]), found[0][1].dtype)
        for here, own_rows in found:
            rows[here] = own_rows
        return rows

    def _of_parts(
        self, indices: npt.NDArray[np.int64]
    ) -> Iterator[tuple[ItemSplit, npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
        """Each part that is asked, which of the indices are its own, and where it has them."""
        part_of = np.searchsorted(self._starts, indices, side="right") - 1
        for number, part in enumerate(self._parts):
            here = part_of == number
            if here.any():
                yield part, here, indices[here] - self._starts[number]


def held_out(dataset: LocalDataset, embeddings: Path | None = None) -> CaptionedSplit:
    """The items of a dataset that were not trained on; `embeddings`: of its captions."""
    return JoinedSplit([open_split(dataset.path, split, embeddings) for split in REFERENCE])
