"""Prepared splits as memory maps: indexable at random without being held in memory.

N items, stored as their spec says (core/item.py).
"""

from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.errors import DataError
from components.core.files import sha256_of
from components.data.embeddings import Embeddings, caption_in, read_captions
from components.data.manifest import Manifest, Shard, read_manifest
from components.data.splits import SPLITS, Split

OPEN_SHARDS = 256  # each memory map holds a file descriptor; systems allow about 1,024
AGAIN = "prepare or fetch the dataset again"


class ShardedSplit:
    """One split of a prepared dataset: a core.protocols.ItemSplit. Pickles as its path, for data loader workers."""

    def __init__(self, folder: Path, split: Split, manifest: Manifest, embeddings: Path | None = None, *, seed: int = 0) -> None:
        self.folder = folder
        self.split = split
        self.embeddings = embeddings
        self.seed = seed
        self.item = manifest.item
        self.shards = manifest.shards[split]
        self.starts = np.cumsum([0, *(shard.count for shard in self.shards)])
        self.labels = self._labels() if manifest.classes else None
        self._caption_file = manifest.caption_files.get(split)
        self._map = lru_cache(maxsize=OPEN_SHARDS)(self._open)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __reduce__(self) -> tuple[object, ...]:
        return open_split, (self.folder, self.split, self.embeddings, self.seed)

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        """The stored items at `indices`, [len(indices), *stored_shape]. Raises IndexError outside 0 .. N - 1, DataError."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"indices {indices.min()} to {indices.max()} of {len(self)} items")
        items = np.empty((len(indices), *self.item.stored_shape), self.item.storage.dtype)
        owners = np.searchsorted(self.starts, indices, side="right") - 1
        for owner in np.unique(owners):
            of_owner = owners == owner
            items[of_owner] = self._map(int(owner))[indices[of_owner] - self.starts[owner]]
        return items

    @cached_property
    def captions(self) -> tuple[tuple[str, ...], ...] | None:
        """What is said of each item, at least one text; None where the data has no captions. Raises DataError."""
        file = self._caption_file
        return None if file is None else read_captions(self.folder / file.file, count=len(self))

    def take_condition(self, indices: npt.NDArray[np.int64], *, epoch: int = 0) -> npt.NDArray[np.float32]:
        """The embedding of a caption of each item, [len(indices), L, D]: in epoch 0 of a held-out item the first, else one of its
        captions that item, epoch and seed alone decide. Raises DataError for data without captions, or without embeddings."""
        if self.captions is None:
            raise DataError(
                f"{self.folder}: a model that is asked by a text, and data without captions",
                do="prepare it with captions (docs/data.md), or write conditioning: none or class",
            )
        if self.embeddings is None:
            raise DataError(f"{self.folder}: opened without the embeddings of its captions", do="embed them first")
        pick = partial(caption_in, epoch=epoch, train=self.split == "train", seed=self.seed)
        return self._embedded.of([pick(self.captions[at], item=int(at)) for at in indices])

    @cached_property
    def _embedded(self) -> Embeddings:
        assert self.embeddings is not None
        return Embeddings.open(self.embeddings)

    def _open(self, at: int) -> Stored:
        shard, item = self.shards[at], self.item
        return _mapped(self.folder / shard.file, (shard.count, *item.stored_shape), np.dtype(item.storage.dtype))

    def _labels(self) -> npt.NDArray[np.int64]:
        parts = [_mapped(self.folder / str(shard.labels_file), (shard.count,), np.dtype(np.int64)) for shard in self.shards]
        return np.concatenate([np.array(part, np.int64) for part in parts]) if parts else np.zeros(0, np.int64)


def open_split(folder: Path | str, split: Split, embeddings: Path | None = None, seed: int = 0) -> ShardedSplit:
    """Open one split of a prepared folder. Checks that each file is there, of its size and kind, without reading it all.

    `embeddings`: those of its captions (embeddings.py), by which a model is asked for its items; `seed`: of the training, which
    draws where an item of several captions begins.
    Raises DataError for a folder that is no prepared dataset, and for a missing, truncated or corrupt shard.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if split not in manifest.shards:
        raise DataError(f"{folder}: no split {split!r}", allowed=", ".join(SPLITS))
    for shard in manifest.shards[split]:
        _check(folder, shard, manifest)
    _check_captions(folder, manifest, split)
    return ShardedSplit(folder, split, manifest, embeddings, seed=seed)


def verify(folder: Path) -> Manifest:
    """Read every byte of a prepared folder and compare it with dataset.json. Raises DataError for the first that differs."""
    manifest = check_sizes(folder)
    for shards in manifest.shards.values():
        for shard in shards:
            for name, sha256 in ((shard.file, shard.sha256), (shard.labels_file, shard.labels_sha256)):
                if name and sha256_of(folder / name) != sha256:
                    raise DataError(f"{folder / name}: corrupt: its SHA-256 is not the one in dataset.json", do=AGAIN)
    for file in manifest.caption_files.values():
        if sha256_of(folder / file.file) != file.sha256:
            raise DataError(f"{folder / file.file}: corrupt: its SHA-256 is not the one in dataset.json", do=AGAIN)
    return manifest


def check_sizes(folder: Path) -> Manifest:
    """Check that every file is there, of its size and kind. Raises DataError for the first that is not."""
    manifest = read_manifest(folder)
    for shards in manifest.shards.values():
        for shard in shards:
            _check(folder, shard, manifest)
    for split in manifest.caption_files:
        _check_captions(folder, manifest, split)
    return manifest


def _check_captions(folder: Path, manifest: Manifest, split: Split) -> None:
    if (file := manifest.caption_files.get(split)) is None:
        return
    path = folder / file.file
    if not path.is_file():
        raise DataError(f"{path}: missing", do=AGAIN)
    if path.stat().st_size != file.size_bytes:
        raise DataError(f"{path}: corrupt: {path.stat().st_size} bytes instead of {file.size_bytes}", do=AGAIN)


def _check(folder: Path, shard: Shard, manifest: Manifest) -> None:
    expected: list[tuple[str, int, tuple[int, ...], np.dtype[np.generic]]] = [
        (shard.file, shard.size_bytes, (shard.count, *manifest.shape), np.dtype(manifest.item.storage.dtype))
    ]
    if manifest.classes:
        expected.append((str(shard.labels_file), shard.labels_size_bytes, (shard.count,), np.dtype(np.int64)))
    for name, size_bytes, shape, dtype in expected:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: missing", do=AGAIN)
        if path.stat().st_size != size_bytes:
            raise DataError(f"{path}: corrupt: {path.stat().st_size} bytes instead of {size_bytes}", do=AGAIN)
        _mapped(path, shape, dtype)


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    try:
        array: npt.NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: corrupt: {error}", do=AGAIN) from error
    if array.shape != shape or array.dtype != dtype:
        raise DataError(f"{path}: corrupt: {array.dtype} {list(array.shape)} instead of {dtype} {list(shape)}", do=AGAIN)
    return array
