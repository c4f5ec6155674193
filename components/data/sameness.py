"""Items that are equal to each other, or flat: what a generator could learn by heart, and what it could not learn at all."""

import hashlib
import math
from array import array

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.data.splits import SPLITS, Split


class Sameness:
    """Counts equal items by a digest of 64 bits: eight bytes an item are kept, whatever its size."""

    def __init__(self) -> None:
        self.digests: dict[Split, array[int]] = {split: array("Q") for split in SPLITS}
        self.flat = 0
        self.low, self.high = math.inf, -math.inf

    def add(self, item: Stored, split: Split, *, channel_axis: int | None = None) -> bool:
        """Count one stored item; whether it is flat: of one value, or one colour, all over."""
        digest = hashlib.blake2b(np.ascontiguousarray(item).data, digest_size=8).digest()
        self.digests[split].append(int.from_bytes(digest, "little"))
        others = tuple(axis for axis in range(item.ndim) if axis != channel_axis)
        low_C, high_C = item.min(others), item.max(others)
        self.low, self.high = min(self.low, low_C.min().item()), max(self.high, high_C.max().item())
        flat = bool((low_C == high_C).all())
        self.flat += flat
        return flat

    def identical(self) -> int:
        """How many items equal an earlier one."""
        everything = np.concatenate([self._of(split) for split in SPLITS])
        return len(everything) - len(np.unique(everything))

    def shared(self) -> int:
        """How many held-out items equal one of the training items."""
        train = np.unique(self._of("train"))
        return sum(int(np.isin(self._of(split), train).sum()) for split in SPLITS if split != "train")

    def _of(self, split: Split) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self.digests[split], np.uint64) if self.digests[split] else np.zeros(0, np.uint64)
