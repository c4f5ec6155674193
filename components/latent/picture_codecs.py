"""What PNG, JPEG and WebP reach on the same images: all of them side by side as one picture, so that each codec's header counts
once and not for every small image.

N images, H height, W width, C channels.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, features

from components.core.arrays import Stored
from components.core.record import Record
from components.latent.compression import Point, distortion, psnr_db

QUALITIES = (1, 2, 3, 5, 7, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95)
SIDE_MAX = 16383  # pixels of a WebP


class PicturePoint(Record):
    """One codec at one quality, None of a lossless one; PSNR is None without any error."""

    codec: str
    quality: int | None
    bits_per_dim: float
    psnr_db: float | None


class Beside(Record):
    """A codec beside a point of the model: its best PSNR at no more than that rate, and its least rate at no less than that PSNR.

    None where it has no file that small, or none that good.
    """

    psnr_db: float | None
    bits_per_dim: float | None


def picture_points(images: Stored) -> list[PicturePoint]:
    """PNG, and each lossy codec that this Pillow has at every quality. Empty for what is neither a grey nor an RGB image."""
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        return []
    sheet = _sheet(images[: (SIDE_MAX // max(images.shape[1:3])) ** 2])
    lossy = [codec for codec, name in (("jpeg", "jpg"), ("webp", "webp")) if features.check(name)]
    return [_point(sheet, "png", None)] + [_point(sheet, codec, quality) for codec in lossy for quality in QUALITIES]


def beside(point: Point, points: Sequence[PicturePoint]) -> dict[str, Beside]:
    """Each lossy codec beside a point of the model."""
    found = {}
    for codec in dict.fromkeys(each.codec for each in points if each.quality is not None):
        own = [each for each in points if each.codec == codec]
        there = [_quality(each) for each in own if each.bits_per_dim <= point.bits_per_dim]
        as_good = [each.bits_per_dim for each in own if _quality(each) >= _quality(point)]
        best = max(there, default=None)
        found[codec] = Beside(psnr_db=None if best == math.inf else best, bits_per_dim=min(as_good, default=None))
    return found


def _quality(point: Point | PicturePoint) -> float:
    return math.inf if point.psnr_db is None else point.psnr_db


def _sheet(images: Stored) -> Image.Image:
    """As many images as fill a rectangle, as tiles without gaps."""
    n, height, width, channels = images.shape
    columns = math.isqrt(n)
    rows = n // columns
    tiles = images[: rows * columns].reshape(rows, columns, height, width, channels)
    sheet = tiles.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def _point(sheet: Image.Image, codec: str, quality: int | None) -> PicturePoint:
    options: dict[str, dict[str, Any]] = {
        "png": {"optimize": True},
        "jpeg": {"quality": quality, "optimize": True},
        "webp": {"quality": quality, "method": 6},
    }
    buffer = io.BytesIO()
    sheet.save(buffer, codec, **options[codec])
    size_bytes = buffer.tell()
    with Image.open(buffer) as read:
        back, original = np.asarray(read.convert(sheet.mode)), np.asarray(sheet)
    rate = 8 * size_bytes / original.size
    return PicturePoint(codec=codec, quality=quality, bits_per_dim=rate, psnr_db=psnr_db(distortion(back, original)))
