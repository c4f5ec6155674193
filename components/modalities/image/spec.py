"""The shape of an image."""

from typing import Literal, Self

from pydantic import Field

from components.core.item import ItemSpec, Storage


class ImageSpec(ItemSpec):
    """C channels, H rows and W columns of pixels. Data units: [C, H, W] in [-1, 1]; stored: uint8 [H, W, C].

    >>> spec = ImageSpec(channels=1, height=8, width=8)
    >>> spec.shape, spec.stored_shape, spec.text
    ((1, 8, 8), (8, 8, 1), '8x8x1')
    """

    dims = ("channels", "height", "width")
    storage = Storage(dtype="uint8", axes=(1, 2, 0), scale=127.5, offset=1.0, low=0, high=255)
    modality: Literal["image"] = "image"
    channels: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)

    @classmethod
    def declared(cls, *, side: int) -> Self:
        """A square in colour."""
        return cls(channels=3, height=side, width=side)

    @property
    def side(self) -> int:
        return max(self.height, self.width)
