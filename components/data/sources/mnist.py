"""MNIST: 60,000 + 10,000 grey 28x28 handwritten digits in IDX files.

Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits (1998). The MD5 are those published for the raw files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.core.errors import DataError
from components.core.modality import ItemReader
from components.data.archives import Archive, RawFile, raw_files
from components.data.sources.item import Item, Opening, Survey
from components.data.splits import Split
from components.runtime.progress import Advance

MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
CLASSES = tuple("0123456789")


def _archive(name: str, md5: str, size_bytes: int) -> Archive:
    return Archive(f"mnist/{name}.gz", tuple(f"{base}{name}.gz" for base in MIRRORS), (RawFile(name, md5, size_bytes),))


NAME = "mnist"
ARCHIVES = (
    _archive("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", 47_040_016),
    _archive("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", 60_008),
    _archive("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", 7_840_016),
    _archive("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", 10_008),
)
PARTS: tuple[tuple[Split, str], ...] = (("train", "train"), ("test", "t10k"))


@dataclass(frozen=True)
class Mnist:
    """The set, from its mirrors; the official test items stay test."""

    cache: Path
    mirror: str | None = None
    progress: bool = False
    archives: tuple[Archive, ...] = ARCHIVES
    kind: str = NAME
    where: str = NAME
    modality: str = "image"
    locked: bool = True

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """Counts and size stand in the files' headers."""
        files = raw_files(self.kind, self.archives, cache=self.cache, mirror=self.mirror, progress=self.progress)
        images = [idx(files[f"{stem}-images-idx3-ubyte"]) for _, stem in PARTS]
        reader.look(np.zeros((*images[0].shape[1:], 1), np.uint8))
        index = {name: at for at, name in enumerate(CLASSES)}
        return Survey(count=sum(map(len, images)), classes=CLASSES, index=index)

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """Training items first, in the order of the files."""
        files = raw_files(self.kind, self.archives, cache=self.cache, mirror=self.mirror, progress=self.progress)
        for split, stem in PARTS:
            images = idx(files[f"{stem}-images-idx3-ubyte"])
            labels = idx(files[f"{stem}-labels-idx1-ubyte"])
            for at in range(len(images)):
                yield Item(
                    name=f"{stem}/{at}",
                    read=partial(_pixels, images, at),
                    label=str(labels[at]),
                    split=split,
                )


def _pixels(images: npt.NDArray[np.uint8], at: int) -> npt.NDArray[np.uint8]:
    """Image [28, 28] -> [28, 28, 1]."""
    return np.array(images[at])[..., None]


def idx(path: Path) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes as a memory map: two zero bytes, 0x08, the rank, then big-endian sizes. Raises DataError."""
    with path.open("rb") as file:
        head = file.read(4)
        rank = head[3] if len(head) == 4 and head[:3] == b"\0\0\x08" else 0
        shape = tuple(int(size) for size in np.frombuffer(file.read(4 * rank), ">u4"))
        start = file.tell()
    if not rank or len(shape) != rank or start + int(np.prod(shape)) != path.stat().st_size:
        raise DataError(f"{path}: not an IDX file of bytes", do="delete it and run the same command again")
    return np.memmap(path, np.uint8, "r", offset=start, shape=shape)


def opened(opening: Opening) -> Mnist:
    """The set, through the cache and the mirror."""
    return Mnist(cache=opening.cache, mirror=opening.mirror, progress=opening.progress)
