"""Data of images, as most tests want it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.records import ClassCondition, DataSpec
from components.core.units import to_stored
from components.modalities.image.spec import ImageSpec


def image_data(
    *, channels: int, height: int, width: int, classes: tuple[str, ...] = (), conditional: bool = False, std: float = 0.5
) -> DataSpec:
    """What a family must know of such images; `conditional`: it is told the class of each."""
    asked = ClassCondition(classes=classes) if conditional else None
    return DataSpec(item=ImageSpec(channels=channels, height=height, width=width), condition=asked, std=std)


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
