"""Batches in a seeded order that depends on the step alone, so a resumed run sees what an uninterrupted one sees."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.core.family import to_data_units
from components.core.protocols import ImageSplit


class BatchStream:
    """Endless epochs over a split; each epoch is a permutation drawn from (seed, epoch). The last, partial batch is dropped."""

    def __init__(self, split: ImageSplit, *, batch_size: int, seed: int) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.seed = seed
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def __call__(self, step: int) -> tuple[Tensor, Tensor | None]:
        """The batch of a step: x_BCHW in [-1, 1] and labels_B."""
        per_epoch = len(self.split) // self.batch_size
        epoch, place = divmod(step, per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))
            self._epoch = epoch
        # Sorted within the batch: neighbours on disk are read together.
        chosen = np.sort(self._order[place * self.batch_size : (place + 1) * self.batch_size])
        labels = self.split.labels
        return to_data_units(self.split.take(chosen)), None if labels is None else torch.from_numpy(labels[chosen])
