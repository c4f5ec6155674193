"""What a family of images knows of its data: its card says images, so the item of its DataSpec is one."""

from typing import Protocol, cast

from components.core.records import DataSpec


class ImageShape(Protocol):
    """The size of an image: components.modalities.image.spec.ImageSpec."""

    channels: int
    height: int
    width: int


def image_of(spec: DataSpec) -> ImageShape:
    """The size of the images."""
    return cast(ImageShape, spec.item)


def resized(spec: DataSpec, **sizes: int) -> DataSpec:
    """The same of images with other `channels`, `height` or `width`."""
    return spec.model_copy(update={"item": spec.item.model_copy(update=sizes)})


def side_of(spec: DataSpec) -> int:
    """The longer side, in pixels."""
    return max(image_of(spec).height, image_of(spec).width)


def to_square(height: int, width: int, *, multiple: int) -> tuple[int, int]:
    """Rows below and columns to the right that make a square of it, whose side is a multiple of this.

    >>> to_square(5, 8, multiple=3)
    (4, 1)
    """
    side = max(height, width)
    side += -side % multiple
    return side - height, side - width
