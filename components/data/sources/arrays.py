"""An npz with `images`, uint8 [N, H, W] or [N, H, W, C], and optional `labels` [N] or [N, K]; the images are streamed out of it.

N items, H, W pixels, C channels (1 or 3).
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from components.core.errors import DataError
from components.core.modality import ItemReader
from components.data.sources.array_labels import HELD, check_others, read_array_labels, read_header
from components.data.sources.classes import ClassRule
from components.data.sources.item import Item, Opening, Survey
from components.data.sources.names import numbers_first, shown
from components.runtime.progress import Advance

KIND = "an npz"
WANTED = f"`images` as uint8 [N, H, W] or [N, H, W, 1 or 3] in C order, and optionally `labels`: {HELD}"
MAX_PIXELS = 50_000_000  # of one image
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)


@dataclass(frozen=True)
class Npz:
    """Images without names: item k is image k."""

    path: Path
    classes: ClassRule = "auto"
    kind: str = "npz"
    modality: str = "image"
    locked: bool = False

    @property
    def where(self) -> str:
        """The path."""
        return shown(str(self.path))

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """The arrays' headers and the labels. Raises DataError for arrays of another kind."""
        with self._opened() as archive, _array(archive, "images") as (_, shape):
            labels = self._labels(archive, shape[0])
            left = self._others(archive, shape[0])
        classes = tuple(sorted(set(labels), key=numbers_first)) if labels else ()
        index = {name: at for at, name in enumerate(classes)}
        if shape[0]:
            reader.look(np.zeros(shape[1:], np.uint8))
        return Survey(count=shape[0], classes=classes, index=index, left_alone=left)

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """In the order of the array."""
        with self._opened() as archive, _array(archive, "images") as (stream, shape):
            labels = self._labels(archive, shape[0])
            row_bytes = shape[1] * shape[2] * shape[3]
            for at in range(shape[0]):
                row = stream.read(row_bytes)
                if len(row) != row_bytes:
                    raise DataError(f"{self.path}: images end after {at} of {shape[0]}", do="write it again")
                pixels = np.frombuffer(row, np.uint8).reshape(shape[1:])
                yield Item(name=f"{at}", read=partial(np.array, pixels), label=labels[at] if labels else None)

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except DAMAGED as error:
            raise DataError(f"{self.path}: not a usable npz: {error}", allowed=WANTED) from error

    def _labels(self, archive: zipfile.ZipFile, count: int) -> list[str]:
        """The class of each image; none without an array of that name, or where they are not wanted."""
        if self.classes == "none" or "labels.npy" not in archive.namelist():
            return []
        return read_array_labels(archive, count, where=self.where)

    def _others(self, archive: zipfile.ZipFile, count: int) -> dict[str, int]:
        """Arrays that are not read. Raises DataError for one that may be the labels under another name."""
        read = {"images.npy"} if self.classes == "none" else {"images.npy", "labels.npy"}
        others = [name for name in archive.namelist() if name not in read]
        if self.classes != "none" and "labels.npy" not in archive.namelist():
            check_others(archive, others, count, where=self.where)
        return {f"array {shown(name.removesuffix('.npy'))}"[:40]: 1 for name in others}


@contextmanager
def _array(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], tuple[int, int, int, int]]]:
    """A stream that stands at the first byte of an array, and its shape [N, H, W, C]. Raises ValueError for a wrong kind."""
    member = f"{name}.npy"
    if member not in archive.namelist():
        raise ValueError(f"it holds {', '.join(archive.namelist()) or 'nothing'}")
    with archive.open(member) as stream:
        shape, fortran, dtype = read_header(stream)
        shape = (*shape, 1) if len(shape) == 3 else shape
        if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] not in (1, 3):
            raise ValueError(f"{name} are {dtype} {list(shape)}{' in Fortran order' if fortran else ''}")
        if not 0 < shape[1] * shape[2] <= MAX_PIXELS or int(np.prod(shape)) > archive.getinfo(member).file_size:
            raise ValueError(f"{name} are {list(shape)}, which does not fit the file")
        yield stream, shape


def claimed(path: Path, opening: Opening) -> Npz | None:
    """A file with the ending of one. Raises DataError where folders are asked for as classes."""
    if path.is_dir() or path.suffix != ".npz":
        return None
    if opening.classes == "folders":
        raise DataError(f"{shown(str(path))}: --classes folders given, and an npz has none", allowed="auto, none")
    return Npz(path, classes=opening.classes)
