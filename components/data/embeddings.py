"""The captions of prepared data, and the embeddings that an encoder made of them: a row a distinct caption, made once.

M distinct captions, L tokens, D features. A folder of embeddings holds `captions.jsonl`, M lines of one JSON text each, and
`embeddings.npy`, float16 or float32 [M, L, D] in the order of these lines; it is mapped, not read.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.core.errors import DataError
from components.core.files import write_whole
from components.data.manifest import Manifest, read_manifest
from components.data.staging import staging

CAPTIONS, EMBEDDINGS = "captions.jsonl", "embeddings.npy"
AT_ONCE = 256  # captions that are encoded before their rows are written
AGAIN = "prepare or fetch the dataset again"
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]  # texts -> [N, L, D]


@dataclass(frozen=True)
class Embeddings:
    """Caption -> its row."""

    rows: npt.NDArray[np.generic]  # [M, L, D]
    index: dict[str, int]

    @classmethod
    def open(cls, folder: Path) -> "Embeddings":
        """Map a folder of embeddings. Raises DataError for what is none."""
        try:
            rows = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
            captions = [json.loads(line) for line in (folder / CAPTIONS).read_bytes().splitlines()]
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder}: no embeddings of captions: {error}", do="embed the captions again") from error
        if rows.ndim != 3 or rows.dtype not in (np.float16, np.float32) or len(rows) != len(captions):
            raise DataError(
                f"{folder}: embeddings {rows.dtype} {list(rows.shape)} of {len(captions)} captions", do="embed the captions again"
            )
        return cls(rows, {caption: at for at, caption in enumerate(captions)})

    def of(self, captions: Sequence[str]) -> npt.NDArray[np.float32]:
        """The rows of some captions, float32 [len(captions), L, D]. Raises DataError for one that was not embedded."""
        if missing := next((caption for caption in captions if caption not in self.index), None):
            raise DataError(f"the caption {missing[:60]!r} has no embedding", do="embed the captions of this version of the data")
        found: npt.NDArray[np.float32] = self.rows[[self.index[caption] for caption in captions]].astype(np.float32)
        return found


def embed(captions: Sequence[str], encode: Encode, to: Path, *, dtype: str = "float16") -> None:
    """Write the embeddings of distinct captions as a folder, whole or not at all."""
    first = encode(captions[:1])
    with staging(to, marker=EMBEDDINGS) as folder:
        shape = (len(captions), *first.shape[1:])
        rows = np.lib.format.open_memmap(folder / EMBEDDINGS, mode="w+", dtype=np.dtype(dtype), shape=shape)
        for at in range(0, len(captions), AT_ONCE):
            rows[at : at + AT_ONCE] = encode(captions[at : at + AT_ONCE])
        rows.flush()
        write_whole(folder / CAPTIONS, b"".join(json.dumps(caption).encode() + b"\n" for caption in captions))


def distinct_captions(folder: Path) -> tuple[str, ...]:
    """Every caption of a prepared folder once, sorted. Raises DataError."""
    manifest = read_manifest(folder)
    of_split = (read_captions(folder / file.file, count=manifest.splits[split]) for split, file in manifest.caption_files.items())
    return tuple(sorted({caption for split in of_split for captions in split for caption in captions}))


def captions_digest(manifest: Manifest) -> str:
    """One SHA-256 of all that is said of the items of a prepared folder; that of nothing where nothing is."""
    files = sorted(manifest.caption_files.items())
    return hashlib.sha256("".join(f"{split} {file.sha256}\n" for split, file in files).encode()).hexdigest()


def read_captions(path: Path, *, count: int) -> tuple[tuple[str, ...], ...]:
    """What is said of the items of a split. Raises DataError for a file that is damaged."""
    try:
        found = tuple(tuple(map(str, json.loads(line))) for line in path.read_bytes().split(b"\n")[:-1])
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: corrupt: {error}", do=AGAIN) from error
    if len(found) != count or not all(found):
        raise DataError(f"{path}: corrupt: captions of {sum(map(bool, found))} items instead of {count}", do=AGAIN)
    return found


def caption_in(captions: Sequence[str], *, item: int, epoch: int, train: bool, seed: int = 0) -> str:
    """Which caption of an item an epoch takes: each in turn, from the first where the item is held out, else from one that is
    drawn for each item by the seed of the training.

    >>> [caption_in(("a", "b"), item=3, epoch=epoch, train=False) for epoch in range(3)]
    ['a', 'b', 'a']
    """
    drawn = hashlib.blake2b(item.to_bytes(8, "little"), digest_size=8, salt=seed.to_bytes(8, "little")).digest()
    return captions[(int.from_bytes(drawn if train else b"", "little") + epoch) % len(captions)]
