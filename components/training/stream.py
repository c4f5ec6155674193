"""Batches in a seeded order that depends on the step alone, so a resumed run sees what an uninterrupted one sees.

Items travel as they are stored and become floats where they are used; on a GPU a split that fits stays there for the whole run.

N items, B batch (of this process), G batch (of all processes).
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.core.errors import DataError
from components.core.family import Batch, to_data_units
from components.core.protocols import ItemSplit
from components.core.records import Condition
from components.runtime.processes import processes, rank

KEPT_BYTES = 1 << 30  # the largest split that stays on a GPU


class BatchStream:
    """Endless epochs over a split; each epoch is a permutation drawn from (seed, epoch). The last, partial batch is dropped.

    Of a batch for several processes each gets an equal part. `condition`: what the model is asked by; None: nothing. Raises
    DataError when there are fewer items than processes, and when the data does not hold the condition.
    """

    def __init__(
        self,
        split: ItemSplit,
        *,
        batch_size: int,
        seed: int,
        condition: Condition | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.whole = min(batch_size, len(split)) // processes() * processes()
        if not self.whole:
            items = min(batch_size, len(split))
            raise DataError(f"batches of {items} items for {processes()} processes", allowed="an item for each", do="use fewer")
        self.batch_size = self.whole // processes()
        self.items = len(split)
        self.seed = seed
        self.item = split.item
        self.split = split
        self._source = _source(split, condition, torch.device(device))
        self._epoch = -1
        self._batches_PG: npt.NDArray[np.int64] = np.empty((0, 0), np.int64)

    @property
    def steps_an_epoch(self) -> int:
        return self.items // self.whole

    def epoch(self, step: int) -> int:
        """The whole passes over the split that lie before a step."""
        return step // self.steps_an_epoch

    def __call__(self, step: int) -> tuple[Tensor, Tensor | None]:
        """The batch of a step on the device: x [B, ...] in data units, and what each is asked for by, [B, *shape]."""
        return self._read(self.chosen(step), self.epoch(step))

    def chosen(self, step: int) -> npt.NDArray[np.int64]:
        """Which items [B] these are."""
        return self._chosen(step)[rank() * self.batch_size : (rank() + 1) * self.batch_size]

    def of(self, chosen_B: npt.NDArray[np.int64]) -> Tensor:
        """These items on the device, in data units."""
        return self._read(chosen_B)[0]

    def of_all(self, step: int) -> tuple[Tensor, Tensor | None]:
        """The batch of all processes, in each that asks: x [G, ...], and [G, *shape]."""
        return self._read(self._chosen(step), self.epoch(step))

    def _chosen(self, step: int) -> npt.NDArray[np.int64]:
        epoch, place = divmod(step, self.steps_an_epoch)
        if epoch != self._epoch:
            self._batches_PG = self._shuffled(epoch)
            self._epoch = epoch
        chosen_G: npt.NDArray[np.int64] = self._batches_PG[place]
        return chosen_G

    def _read(self, chosen_B: npt.NDArray[np.int64], epoch: int = 0) -> tuple[Tensor, Tensor | None]:
        stored, asked_B = self._source.take(chosen_B, epoch)
        return to_data_units(stored, self.item), asked_B

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        """The items of each batch of an epoch, sorted within it: neighbours on disk are read together."""
        order_N = np.random.default_rng((self.seed, epoch)).permutation(self.items)
        whole = order_N[: self.steps_an_epoch * self.whole].reshape(self.steps_an_epoch, self.whole)
        return np.sort(whole, axis=1)


def first_epoch(stream: BatchStream) -> Iterator[Batch]:
    """The batches of its first epoch, each when it is asked for."""
    return (Batch(*stream.of_all(step), step=step) for step in range(stream.steps_an_epoch))


class _Source(Protocol):
    def take(self, chosen_B: npt.NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor | None]:
        """Stored items [B, *stored_shape], and what each is asked for by, on the device."""
        ...


class _OnDisk:
    """Reads each batch and sends it, from pinned memory where that lets the copy overlap with the work before it."""

    def __init__(self, split: ItemSplit, condition: Condition | None, device: torch.device) -> None:
        self.split, self.condition, self.device = split, condition, device

    def take(self, chosen_B: npt.NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor | None]:
        stored = _sent(self.split.take(chosen_B), self.device)
        asked = None if self.condition is None else self.condition.of_items(self.split, chosen_B, epoch=epoch)
        return stored, None if asked is None else _sent(asked, self.device)


class _OnDevice:
    """Holds the items of the whole split where the model is. What they are asked for by, another one in each epoch, is sent."""

    def __init__(self, split: ItemSplit, condition: Condition | None, device: torch.device) -> None:
        self.stored = torch.from_numpy(split.take(np.arange(len(split)))).to(device)
        self.split, self.condition = split, condition

    def take(self, chosen_B: npt.NDArray[np.int64], epoch: int) -> tuple[Tensor, Tensor | None]:
        device = self.stored.device
        asked = None if self.condition is None else self.condition.of_items(self.split, chosen_B, epoch=epoch)
        return self.stored[_sent(chosen_B, device)], None if asked is None else _sent(asked, device)


def _source(split: ItemSplit, condition: Condition | None, device: torch.device) -> _Source:
    one = np.zeros(1, np.int64)
    if condition is not None:
        condition.of_items(split, one)  # said before a step, where there is none
    if device.type == "cpu":
        return _OnDisk(split, condition, device)
    size_bytes = len(split) * split.take(one).nbytes
    return (_OnDevice if size_bytes <= KEPT_BYTES else _OnDisk)(split, condition, device)


def _sent(values: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
