"""Bit depths: pictures stored in more than eight bits a channel, and what their levels become.

H, W pixels; C channels. Scanners and microscopes write 10, 12 or 14 bits into files of 16: read as 16 they come out nearly black.
So the depth of a set is the smallest usual one that holds its largest level, unless the user says how many levels there are.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.core.modality import Unreadable

Pixels = npt.NDArray[np.uint8]  # [H, W, C]
DEPTHS = (8, 10, 12, 14, 16)  # bits a channel
Deep = npt.NDArray[np.int64]  # [H, W, C]


@dataclass(frozen=True)
class Levels:
    """How many levels a channel has: 0 is black, the last is white."""

    deep: int = 1 << 16  # of pictures stored in more than eight bits a channel
    shallow: int = 256  # of those stored in eight

    @classmethod
    def of(cls, *, asked: int | None, largest: int | None) -> "Levels":
        """What the user asked for, else the smallest usual depth that holds the `largest` level of the set."""
        if asked is not None:
            return cls(deep=asked, shallow=min(asked, 256))
        if largest is None:
            return cls()
        return cls(deep=smallest_depth(largest))


def smallest_depth(largest: int) -> int:
    """The levels of the smallest usual depth that holds this one.

    >>> smallest_depth(4095), smallest_depth(4096)
    (4096, 16384)
    """
    return next((1 << bits for bits in DEPTHS if largest < 1 << bits), 1 << 16)


def usual_level(levels: Deep) -> int:
    """The level that all but one in a thousand values, and all but one, stay within: dead pixels lie beyond it."""
    values = levels.ravel()
    at = max(0, values.size - 1 - max(1, values.size // 1000))
    return int(np.partition(values, at)[at])


def deep_levels(data: bytes, image: Image.Image) -> Deep | None:
    """The levels of a picture of more than eight bits a channel, not yet scaled; None for every other. Raises Unreadable."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0:
            raise Unreadable("unsupported", "negative levels")
        return levels[..., None]
    return _deep_colour(data, image)


def _deep_colour(data: bytes, image: Image.Image) -> Deep | None:
    """Pillow keeps the upper byte of 16-bit colour. Told that the bytes lie the other way round, it keeps the lower one."""
    kinds = {_raw_mode(tile) for tile in getattr(image, "tile", [])}
    if len(kinds) != 1 or ";16" not in (kind := kinds.pop()):
        return None
    with Image.open(io.BytesIO(data)) as again:
        upper = np.asarray(image).astype(np.int64)
        if kind.startswith("LA"):
            return upper << 8  # for this one Pillow has no other order: the lower byte is lost, the depth is not
        swapped = kind[:-1] + {"B": "L", "L": "B", "N": "B"}[kind[-1]]
        again.tile = [_with_raw_mode(tile, swapped) for tile in again.tile]
        return upper << 8 | np.asarray(again).astype(np.int64)


def _raw_mode(tile: Any) -> str:
    return str(tile.args if isinstance(tile.args, str) else tile.args[0] if tile.args else "")


def _with_raw_mode(tile: Any, kind: str) -> Any:
    return tile._replace(args=kind if isinstance(tile.args, str) else (kind, *tile.args[1:]))


def to_eight_bits(levels: Deep, *, count: int) -> Image.Image:
    """Levels 0 to count - 1 as 0 to 255, rounded: grey, colour, or colour with transparency. Raises Unreadable beyond them."""
    colours = levels[..., : 3 if levels.shape[2] == 4 else None]
    _check_within(int(colours.max()), count)
    scaled = _scaled(colours, count)
    if levels.shape[2] == 4:
        alpha = levels[..., 3:]
        scaled = np.concatenate([scaled, _scaled(alpha, count if alpha.max() < count else 1 << 16)], 2)
    return Image.fromarray(scaled[..., 0] if scaled.shape[2] == 1 else scaled)


def stretch_pixels(pixels: Pixels, *, count: int) -> Pixels:
    """uint8 [H, W, C] of levels 0 to count - 1, as 0 to 255. Raises Unreadable beyond them."""
    if count == 256:
        return pixels
    _check_within(int(pixels.max()), count)
    return _scaled(pixels.astype(np.int64), count)


def stretch(image: Image.Image, *, count: int) -> Image.Image:
    """A picture of eight bits whose levels are 0 to count - 1, as 0 to 255. Raises Unreadable beyond them."""
    if count == 256 or image.mode not in ("L", "LA", "RGB", "RGBA"):
        return image
    colours = len(image.getbands()) - (image.mode in ("LA", "RGBA"))
    largest = max(high for _, high in _extremes(image)[:colours])
    _check_within(int(largest), count)
    ramp = [min(255, int(level)) for level in _scaled(np.arange(256, dtype=np.int64), count, cast=False)]
    return image.point(ramp * colours + list(range(256)) * (len(image.getbands()) - colours))


def _extremes(image: Image.Image) -> list[tuple[int, int]]:
    found: Any = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _scaled(levels: Deep, count: int, *, cast: bool = True) -> npt.NDArray[Any]:
    scaled = (levels * 255 + (count - 1) // 2) // (count - 1)
    return scaled.astype(np.uint8) if cast else scaled


def _check_within(largest: int, count: int) -> None:
    if largest >= count:
        raise Unreadable("beyond-levels", f"a level of {largest}, where there are {count} (0 to {count - 1}): see --levels")
