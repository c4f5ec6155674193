"""Data of images, as most tests want it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.records import ClassCondition, DataSpec, EmbeddingCondition
from components.core.units import to_stored
from components.modalities.image.spec import ImageSpec


def image_data(
    *, channels: int, height: int, width: int, classes: tuple[str, ...] = (), conditional: bool = False, std: float = 0.5
) -> DataSpec:
    """What a family must know of such images; `conditional`: it is told the class of each."""
    asked = ClassCondition(classes=classes) if conditional else None
    return DataSpec(item=ImageSpec(channels=channels, height=height, width=width), condition=asked, std=std)


def text_data(*, channels: int, height: int, width: int, length: int = 4, features: int = 8, negative: bool = False) -> DataSpec:
    """Images that are asked for by a text."""
    asked = EmbeddingCondition(length=length, features=features, encoder="toy@0", negative=negative)
    return DataSpec(item=ImageSpec(channels=channels, height=height, width=width), condition=asked, std=0.5)


def image_item(height: int, width: int, channels: int) -> ImageSpec:
    """The shape of such images, in the order in which they are stored."""
    return ImageSpec(channels=channels, height=height, width=width)


def to_uint8(x_NCHW: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Images in data units as they are stored, uint8 [N, H, W, C]."""
    _, channels, height, width = x_NCHW.shape
    return to_stored(x_NCHW, image_item(height, width, channels))


@dataclass
class ArraySplit:
    """A split of images in memory, uint8 [N, H, W, C]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None

    @property
    def item(self) -> ImageSpec:
        height, width, channels = self.images.shape[1:]
        return image_item(height, width, channels)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return self.images[indices]


@dataclass
class TextSplit(ArraySplit):
    """The same, each item asked for by a text of its class: as many rows as it has room for, the class's number modulo that."""

    length: int = 4
    features: int = 8

    def take_condition(self, indices: npt.NDArray[np.int64], *, epoch: int = 0) -> npt.NDArray[np.float32]:
        assert self.labels is not None
        return self.texts[self.labels[indices]]

    @property
    def texts(self) -> npt.NDArray[np.float32]:
        """Of each class, [10, L, D]."""
        rows = np.random.default_rng(5).standard_normal((10, self.length, self.features)).astype(np.float32)
        known_KL = np.arange(self.length) <= (np.arange(10) % self.length)[:, None]
        texts: npt.NDArray[np.float32] = rows * known_KL[:, :, None]
        return texts
