"""The codes of all items, computed once: what a two-stage family's autoencoder at rest gives of an item is the same in each step.

They are computed when the second stage begins, and anew by a run that goes on there: all items in order, in pieces of one size.
So a run that was killed learns from the same bits as one that never was: in other batches the last bits of codes may differ on
a CPU. They are kept where they take a small share of the memory that a step leaves, and where the second stage sees each item
often enough. That is settled once (work.py).

N items, B of a batch (of this process).
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.core.family import Batch
from components.core.records import MemoryUse
from components.runtime.processes import all_reduce_max, processes, rank, sum_over_processes
from components.training.learner import Learner
from components.training.stream import BatchStream

FREE_SHARE = 0.1  # of the memory that a step leaves
WORTH = 2  # times that the second stage sees each item, at least: codes are computed anew by each run that goes on


class Keepable(NamedTuple):
    """Codes that memory has room for: of so many items, from so much of the training on."""

    items: int
    begins: float

    def is_worth(self, items_seen: int) -> bool:
        """Whether a training of so many items sees each of these often enough."""
        return (1 - self.begins) * items_seen >= WORTH * self.items


class ItemCodes:
    """The codes of a stream's items, by the family that learns from them. Every process takes part, and has all of them."""

    def __init__(self, learner: Learner, stream: BatchStream) -> None:
        self.learner, self.stream = learner, stream
        self.begins = learner.family.encoded_from()
        self.kept = False  # until that is settled
        self.size_bytes = 0
        self._tables: tuple[Tensor, ...] | None = None

    @property
    def piece(self) -> int:
        """Items that are encoded at once: what a step takes at once."""
        return -(-self.stream.batch_size // self.learner.parts)

    def keepable(self, memory: MemoryUse) -> Keepable | None:
        """What could be kept beside a step that takes this memory: None where nothing can, in all processes alike."""
        if self.begins is None:
            return None
        rows = encoded(self.learner, self.stream.of(np.arange(self.piece)))
        self.size_bytes = self.stream.items * sum(row.nbytes for row in rows) // self.piece
        left = FREE_SHARE * 1e9 * (memory.free_gb - memory.needed_gb)
        return None if all_reduce_max(int(self.size_bytes > left)) else Keepable(self.stream.items, self.begins)

    def beside(self, batch: Batch) -> Batch:
        """The batch of a step with the codes of its items, where they are kept."""
        if not self.kept or self.begins is None or batch.progress < self.begins:
            return batch
        if self._tables is None:
            self._tables = self._computed()
        index_B = torch.from_numpy(self.stream.chosen(batch.step)).to(self._tables[0].device)
        return replace(batch, codes=tuple(table[index_B] for table in self._tables))

    def forget(self) -> None:
        """The weights are others now: compute them again."""
        self._tables = None

    def _computed(self) -> tuple[Tensor, ...]:
        """Of all items [N, ...]; each process encodes an equal share of the pieces."""
        items, tables = self.stream.items, list[Tensor]()
        for first in range(rank() * self.piece, items, processes() * self.piece):
            at_P: npt.NDArray[np.int64] = np.arange(first, min(first + self.piece, items))
            rows = encoded(self.learner, self.stream.of(at_P))
            tables = tables or [torch.zeros((items, *row.shape[1:]), dtype=row.dtype, device=row.device) for row in rows]
            for table, row in zip(tables, rows, strict=True):
                table[first : first + len(row)] = row
        return tuple(map(sum_over_processes, tables))


@torch.no_grad()
def encoded(learner: Learner, x: Tensor) -> tuple[Tensor, ...]:
    """What the family as it is now gives of these items, as it does in a step."""
    with learner.on.autocast():
        codes: tuple[Tensor, ...] = learner.family.encoded(x.contiguous(memory_format=learner.layout))
    return codes
