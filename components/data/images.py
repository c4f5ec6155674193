"""Encoded pictures to pixels, always the same way: orientation, one mode, centre square, Pillow's antialiased bicubic.

H, W pixels; C channels. Transparency is laid over white. A set whose every picture is grey has one channel; any other has three.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from components.data.sources.item import MAX_FILE_BYTES, Pixels, Unreadable

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 50_000_000  # of one picture; more is a decompression bomb or a mistake
RESIZER = "pillow-bicubic-antialias-centre-square"
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"})
ORIENTED = frozenset({"JPEG", "MPO", "WEBP", "TIFF"})  # formats whose EXIF is read without decoding the picture
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap height and width
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded."""

    size: tuple[int, int]  # H, W, upright
    grey: bool


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Open an encoded picture. Whatever Pillow raises, also inside the block, becomes Unreadable."""
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
    try:
        with warnings.catch_warnings():
            # Pillow's warnings about odd files are not the user's concern; only the one about bombs decides something.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Unreadable("oversized", f"{image.width}x{image.height}, more than {MAX_PIXELS} pixels")
                yield image
    except Unreadable:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable("oversized", f"more than {MAX_PIXELS} pixels") from error
    except Exception as error:
        raise Unreadable("undecodable", "not a picture, or a damaged one") from error


def header_of(data: bytes) -> Header:
    """Size and kind of an encoded picture. Raises Unreadable."""
    with opened(data) as image:
        height, width = image.height, image.width
        if image.format in ORIENTED and image.getexif().get(ORIENTATION) in SIDEWAYS:
            height, width = width, height
        return Header(size=(height, width), grey=image.mode in GREY_MODES)


def decode(data: bytes, *, channels: int, side: int | None) -> Pixels:
    """An encoded picture as uint8 [H, W, C], or [side, side, C]. Raises Unreadable."""
    with opened(data) as image:
        upright = ImageOps.exif_transpose(image) if image.format in ORIENTED else image
        return to_pixels(square(to_mode(upright, channels=channels), side=side))


def refit(pixels: Pixels, *, side: int | None) -> Pixels:
    """Pixels [H, W, C] brought to [side, side, C]."""
    if side is None or pixels.shape[:2] == (side, side):
        return pixels
    return to_pixels(square(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), side=side))


def to_pixels(image: Image.Image) -> Pixels:
    """uint8 [H, W, C] of a picture in mode L or RGB."""
    array = np.asarray(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array


def to_mode(image: Image.Image, *, channels: int) -> Image.Image:
    """Mode L or RGB: 16 bits are scaled to 8, transparency is laid over white. Raises Unreadable for floating-point pictures."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "F":
        raise Unreadable("unsupported", "a floating-point picture")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise Unreadable("unsupported", "more than 16 bits a channel")
        image = Image.fromarray(((levels * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return image if image.mode == mode else image.convert(mode)


def square(image: Image.Image, *, side: int | None) -> Image.Image:
    """The centre square, resized to `side` pixels. With side None the picture as it is."""
    if side is None or image.size == (side, side):
        return image
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    if edge == side:
        return image.crop((left, top, left + edge, top + edge))
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))
