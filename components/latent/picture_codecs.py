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

from components.core.protocols import Images
from components.core.record import Record
from components.latent.compression import Point, distortion, psnr_db

QUALITIES = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
SIDE_MAX = 16383  # pixels of a WebP


class PicturePoint(Record):
    """One codec at one quality, None of a lossless one; PSNR is None without any error."""

    codec: str
    quality: int | None
    bits_per_dim: float
    psnr_db: float | None


def picture_points(images: Images) -> list[PicturePoint]:
    """PNG, and each lossy codec that this Pillow has at every quality. Empty for images that are neither grey nor RGB."""
    if images.shape[3] not in (1, 3):
        return []
    sheet = _sheet(images[: (SIDE_MAX // max(images.shape[1:3])) ** 2])
    lossy = [codec for codec, name in (("jpeg", "jpg"), ("webp", "webp")) if features.check(name)]
    return [_point(sheet, "png", None)] + [_point(sheet, codec, quality) for codec in lossy for quality in QUALITIES]


def beside(point: Point, points: Sequence[PicturePoint]) -> dict[str, float | None]:
    """The best PSNR of each lossy codec at no more than the rate of `point`; None when its smallest file is larger."""
    best: dict[str, float | None] = {}
    for rival in points:
        if rival.quality is not None:
            known = best.setdefault(rival.codec, None)
            if rival.bits_per_dim <= point.bits_per_dim and (known is None or (rival.psnr_db or math.inf) > known):
                best[rival.codec] = rival.psnr_db
    return best


def _sheet(images: Images) -> Image.Image:
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
