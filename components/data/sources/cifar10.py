"""CIFAR-10: 50,000 + 10,000 RGB 32x32 photos of ten classes, as rows of one label and 3,072 bytes, channel after channel.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009). The MD5 are those of the six
files inside the authors' binary archive, which itself has the MD5 c32a1d4ab5d03f1284b67883e8d87530.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.core.modality import ItemReader
from components.data.archives import Archive, RawFile, raw_files
from components.data.sources.item import Item, Opening, Survey
from components.runtime.progress import Advance

SIDE = 32
ROW_BYTES = 1 + 3 * SIDE * SIDE
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCH_BYTES = 10_000 * ROW_BYTES
NAME = "cifar10"
ARCHIVES = (
    Archive(
        "cifar-10/cifar-10-binary.tar.gz",
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
        ),
        (
            RawFile("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25", BATCH_BYTES),
            RawFile("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692", BATCH_BYTES),
            RawFile("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421", BATCH_BYTES),
            RawFile("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb", BATCH_BYTES),
            RawFile("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d", BATCH_BYTES),
            RawFile("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d", BATCH_BYTES),
        ),
    ),
)


@dataclass(frozen=True)
class Cifar10:
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
        """Known from the sizes of the raw files."""
        count = sum(raw.size_bytes // ROW_BYTES for archive in self.archives for raw in archive.files)
        index = {name: at for at, name in enumerate(CLASSES)}
        reader.look(np.zeros((SIDE, SIDE, 3), np.uint8))
        return Survey(count=count, classes=CLASSES, index=index)

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """Training batches 1 to 5, then the test batch, in the order of the files."""
        files = raw_files(self.kind, self.archives, cache=self.cache, mirror=self.mirror, progress=self.progress)
        for name, path in files.items():
            rows = np.memmap(path, np.uint8, "r").reshape(-1, ROW_BYTES)
            for at in range(len(rows)):
                yield Item(
                    name=f"{name}/{at}",
                    read=partial(_pixels, rows, at),
                    label=CLASSES[rows[at, 0]],
                    split="test" if name.startswith("test") else "train",
                )


def _pixels(rows: npt.NDArray[np.uint8], at: int) -> npt.NDArray[np.uint8]:
    """Row [3073] -> [32, 32, 3]."""
    return np.array(rows[at, 1:]).reshape(3, SIDE, SIDE).transpose(1, 2, 0)


def opened(opening: Opening) -> Cifar10:
    """The set, through the cache and the mirror."""
    return Cifar10(cache=opening.cache, mirror=opening.mirror, progress=opening.progress)
