"""Encoded pictures to pixels, always the same way: first frame, eight bits, orientation, one ground, one mode, centre square,
Pillow's antialiased bicubic. docs/data.md has the rules as a table.

H, W pixels; C channels. A set whose every picture is grey has one channel; any other has three.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageColor, features

from components.core.errors import DataError
from components.core.modality import MAX_FILE_BYTES, Unreadable
from components.modalities.image.levels import Levels, Pixels, deep_levels, stretch, to_eight_bits, usual_level

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".jpe", ".jif", ".pjpeg", ".pjp"})
AVIF = ("AVIF",) if features.check("avif") else ()
SUFFIXES = JPEG_SUFFIXES | {".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
SUFFIXES |= {".avif"} if AVIF else set()
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", *AVIF)
MAX_PIXELS = 50_000_000  # of one picture; more is a decompression bomb or a mistake
RESIZER = "pillow-bicubic-antialias-centre-square"
BACKGROUND = "white"
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"})
MANY_FRAMES = frozenset({"GIF", "PNG", "WEBP", "TIFF", "AVIF"})  # a JPEG's further pictures are previews
ORIENTED = frozenset({"JPEG", "MPO", "WEBP", "AVIF"})  # EXIF is read without decoding; Pillow turns TIFF by itself
ORIENTATION = 0x0112
ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND"))  # how whole JPEG and PNG files begin and end
TURNS = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap height and width


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded; of more than eight bits a channel, its largest level too."""

    size: tuple[int, int]  # H, W, upright
    grey: bool
    transparent: bool = False
    frames: int = 1
    largest: int | None = None
    usual: int | None = None  # the level that all but a few pixels stay within


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Open an encoded picture. Whatever Pillow raises, also inside the block, becomes Unreadable."""
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
    if not data:
        raise Unreadable("empty", "a file of 0 bytes")
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
        raise Unreadable(*_what_is_wrong(data, error)) from error


def _what_is_wrong(data: bytes, error: Exception) -> tuple[str, str]:
    cut = any(data.startswith(start) and end not in data[-64:] for start, end in ENDS)
    if cut or "truncated" in str(error):
        return "truncated", "it ends before the picture does"
    return "undecodable", "not a picture, or a damaged one"


def header_of(data: bytes) -> Header:
    """Size and kind of an encoded picture. Raises Unreadable."""
    with opened(data) as image:
        height, width = image.height, image.width
        if _orientation(image) in SIDEWAYS:
            height, width = width, height
        grey, transparent, frames = image.mode in GREY_MODES, image.has_transparency_data, _frames(image)
        deep = deep_levels(data, image)
        found = Header(size=(height, width), grey=grey, transparent=transparent, frames=frames)
        return found if deep is None else replace(found, largest=int(deep[..., :3].max()), usual=usual_level(deep[..., :3]))


def decode(data: bytes, *, channels: int, side: int | None, levels: Levels | None = None, background: str = BACKGROUND) -> Pixels:
    """An encoded picture as uint8 [H, W, C], or [side, side, C]. Raises Unreadable."""
    levels = levels or Levels()
    with opened(data) as image:
        turn = TURNS.get(_orientation(image) or 1)
        deep = deep_levels(data, image)
        eight = stretch(image, count=levels.shallow) if deep is None else to_eight_bits(deep, count=levels.deep)
        upright = eight if turn is None else eight.transpose(turn)
        return to_pixels(square(to_mode(upright, channels=channels, background=background), side=side))


def is_transparent(data: bytes) -> bool:
    """Whether a picture has transparency at all."""
    with suppress(Unreadable), opened(data) as image:
        return bool(image.has_transparency_data)
    return False


def check_background(name: str) -> None:
    """Raises DataError for what is no colour."""
    try:
        ImageColor.getrgb(name)
    except ValueError:
        raise DataError(f"background {name!r}", allowed="a colour: white, black, grey, '#80a0ff'") from None


def _orientation(image: Image.Image) -> int | None:
    """Read before the picture is decoded; a PNG's only where it stands before the pixels, as every tool writes it."""
    early = image.format == "PNG" and ("exif" in image.info or "Raw profile type exif" in image.info)
    return image.getexif().get(ORIENTATION) if image.format in ORIENTED or early else None


def _frames(image: Image.Image) -> int:
    with suppress(Exception):  # frames that cannot be counted are damaged; the first may be whole
        return int(getattr(image, "n_frames", 1)) if image.format in MANY_FRAMES else 1
    return 1


def refit(pixels: Pixels, *, side: int | None) -> Pixels:
    """Pixels [H, W, C] brought to [side, side, C]."""
    if side is None or pixels.shape[:2] == (side, side):
        return pixels
    return to_pixels(square(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), side=side))


def to_pixels(image: Image.Image) -> Pixels:
    """uint8 [H, W, C] of a picture in mode L or RGB."""
    array = np.asarray(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array


def to_mode(image: Image.Image, *, channels: int, background: str = BACKGROUND) -> Image.Image:
    """Mode L or RGB: transparency is laid over the ground. Raises Unreadable for floating-point pictures."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "F":
        raise Unreadable("unsupported", "a floating-point picture")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, background), colours)
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
