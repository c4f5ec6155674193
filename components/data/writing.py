"""Writes shards as a stream and sums up their statistics in whole numbers, so that every machine gets the same bytes.

C channels. Shards are written as plain files, not through memory maps: a full disk is then an error, no signal.
"""

import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from components.core.arrays import Stored
from components.core.files import sha256_of
from components.core.item import ItemSpec
from components.data.manifest import Shard
from components.data.splits import Split

SHARD_BYTES = 64 << 20


class Statistics:
    """Sum and sum of squares per channel: mean = S1/n, std = sqrt(n S2 - S1^2)/n; of whole numbers exact until the last step."""

    def __init__(self, item: ItemSpec) -> None:
        self.axis = item.channel_axis
        self.exact = np.issubdtype(np.dtype(item.storage.dtype), np.integer)
        self.n = 0
        self.sums: list[int | float] = [0] * (1 if self.axis is None else item.stored_shape[self.axis])
        self.squares: list[int | float] = list(self.sums)

    def add(self, item: Stored) -> None:
        """Count one stored item."""
        flat = item.reshape(-1, 1) if self.axis is None else np.moveaxis(item, self.axis, -1).reshape(-1, len(self.sums))
        flat = flat.astype(np.int64 if self.exact else np.float64)
        self.n += len(flat)
        self.sums = [have + new.item() for have, new in zip(self.sums, flat.sum(0), strict=True)]
        self.squares = [have + new.item() for have, new in zip(self.squares, (flat * flat).sum(0), strict=True)]

    def mean(self) -> tuple[float, ...]:
        """Per channel."""
        return tuple(round(total / self.n, 9) for total in self.sums)

    def std(self) -> tuple[float, ...]:
        """Per channel, of the whole population."""
        return tuple(
            round(math.sqrt(max(0, self.n * square - total * total)) / self.n, 9)
            for total, square in zip(self.sums, self.squares, strict=True)
        )


class ShardWriter:
    """Writes the items of one split as they come: `train-00000.npy`, `train-00000.labels.npy`, and so on."""

    def __init__(self, folder: Path, split: Split, *, item: ItemSpec, labelled: bool, shard_bytes: int) -> None:
        self.folder = folder
        self.split = split
        self.shape, self.dtype = item.stored_shape, np.dtype(item.storage.dtype)
        self.item_bytes = math.prod(self.shape) * self.dtype.itemsize
        self.labelled = labelled
        self.capacity = max(1, shard_bytes // self.item_bytes)
        self.shards: list[Shard] = []
        self.labels: list[int] = []
        self.rows = 0
        self.file: IO[bytes] | None = None

    def add(self, item: Stored, label: int | None) -> None:
        """Append one stored item."""
        assert item.shape == self.shape
        assert item.dtype == self.dtype
        if self.file is None:
            self.file = self._path().open("wb", buffering=1 << 20)
            _header(self.file, rows=0, shape=self.shape, dtype=self.dtype)
        self.file.write(np.ascontiguousarray(item).data)
        self.rows += 1
        if label is not None:
            self.labels.append(label)
        if self.rows == self.capacity:
            self.finish()

    def finish(self) -> None:
        """Close the shard that is being written, if there is one."""
        if self.file is None:
            return
        with self.file as file:
            start = file.tell() - self.rows * self.item_bytes
            file.seek(0)
            _header(file, rows=self.rows, shape=self.shape, dtype=self.dtype)
            assert file.tell() == start, "numpy keeps room in the header for a growing first axis"
            file.flush()
            os.fsync(file.fileno())
        self.shards.append(self._described())
        self.file, self.rows, self.labels = None, 0, []

    def abandon(self) -> None:
        """Let go of the open file after an error."""
        if self.file is not None:
            self.file.raw.close() if hasattr(self.file, "raw") else self.file.close()
            self.file = None

    def _path(self, kind: str = "") -> Path:
        return self.folder / f"{self.split}-{len(self.shards):05d}{kind}.npy"

    def _described(self) -> Shard:
        path = self._path()
        shard = Shard(file=path.name, count=self.rows, size_bytes=path.stat().st_size, sha256=sha256_of(path))
        if not self.labelled:
            return shard
        labels = self._path(".labels")
        with labels.open("wb") as file:
            np.save(file, np.array(self.labels, "<i8"))
            file.flush()
            os.fsync(file.fileno())
        extra = {
            "labels_file": labels.name,
            "labels_size_bytes": labels.stat().st_size,
            "labels_sha256": sha256_of(labels),
        }
        return shard.model_copy(update=extra)


def _header(file: IO[bytes], *, rows: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    described: dict[str, Any] = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *shape)}
    np.lib.format.write_array_header_1_0(file, described)
