"""Reads pictures: each is looked at once, by its header, then decoded, brought to one mode and size.

H, W pixels; C channels. docs/data.md has the rules as a table.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from PIL import Image

from components.core.arrays import Raw, Stored
from components.core.errors import DataError
from components.core.modality import ItemReader, Unreadable
from components.modalities.image.decode import (
    BACKGROUND,
    MAX_PIXELS,
    RESIZER,
    SUFFIXES,
    check_background,
    decode,
    header_of,
    is_transparent,
    refit,
    to_mode,
    to_pixels,
)
from components.modalities.image.levels import Levels, smallest_depth, stretch_pixels
from components.modalities.image.spec import ImageSpec

MAX_SIDE = 4096
MAX_LEVELS = 1 << 24
USUAL_SHARE = 0.02  # of the pictures, that may have bright pixels of their own
FRAMES = "pages or frames after the first"


class ImageReader(ItemReader):
    """Pictures of one set. `side`: pixels; each becomes a square of it. `background`: the colour under transparency. `count`: how
    many levels a channel has (4096 for twelve bits); None: as the pictures show. `into`: each is brought to this size and
    mode."""

    suffixes = frozenset(SUFFIXES)

    def __init__(
        self, *, side: int | None = None, background: str = BACKGROUND, count: int | None = None, into: ImageSpec | None = None
    ) -> None:
        _check(side, count)
        check_background(background)
        self.side, self.background, self.count, self.into = side, background, count, into
        self.sizes: dict[tuple[int, int], None] = {}  # the first two
        self.grey = True
        self.transparent = self.frames = 0
        self.largest: int | None = None  # level of pictures of more than eight bits a channel
        self.depths: Counter[int] = Counter()  # levels that hold all but a few pixels of such a picture -> pictures

    def look(self, item: Raw) -> None:
        """A file's header; whole pictures only where they have more than eight bits a channel."""
        if not isinstance(item, bytes):
            self.sizes[item.shape[0], item.shape[1]] = None
            self.grey = self.grey and item.shape[2] == 1
            return
        header = header_of(item)
        if len(self.sizes) < 2:
            self.sizes[header.size] = None
        self.grey = self.grey and header.grey
        self.transparent += header.transparent
        self.frames += header.frames - 1
        if header.largest is not None and header.usual is not None:
            self.largest = max(self.largest or 0, header.largest)
            self.depths[smallest_depth(header.usual)] += 1

    def spec(self, *, where: str) -> ImageSpec:
        """Squares of the side that was asked for, else what all pictures are. A set whose every picture is grey has one
        channel."""
        if self.into is not None:
            return self.into
        sizes = list(self.sizes)
        if self.side is None and len(sizes) != 1:
            mixed = " and ".join(f"{height}x{width}" for height, width in sizes)
            given = f"sizes differ: {mixed}" if mixed else "none of the items is a readable picture"
            raise DataError(f"{where}: {given}", do="give a side in pixels (--side)" if mixed else "give other data")
        height, width = (self.side, self.side) if self.side else sizes[0]
        if height * width > MAX_SIDE * MAX_SIDE:
            raise DataError(f"{where}: {height}x{width} pixels", allowed=f"{MAX_PIXELS}", do="give --side")
        self.resizer = RESIZER if self.side and sizes != [(self.side, self.side)] else None
        return ImageSpec(channels=1 if self.grey else 3, height=height, width=width)

    def read(self, item: Raw) -> Stored:
        """uint8 [H, W, C]."""
        if self.into is not None:
            return self._into(item, self.into)
        if isinstance(item, bytes):
            return decode(item, channels=1 if self.grey else 3, side=self.side, levels=self._levels, background=self.background)
        return refit(stretch_pixels(item, count=self._levels.shallow), side=self.side)

    def left_alone(self) -> Mapping[str, int]:
        return {FRAMES: self.frames} if self.frames else {}

    def details(self) -> Mapping[str, Any]:
        """`levels`: None where no picture has more than 256 and no number was asked for. `levels_usual`: a smaller depth that
        holds all but a few pixels of nearly every picture."""
        levels = self.count or (None if self.largest is None else self._levels.deep)
        usual = self._usual_depth() if self.count is None else None
        return {
            "levels": levels,
            "levels_usual": usual if usual is not None and levels is not None and usual < levels else None,
            "transparent": self.transparent,
            "background": self.background,
        }

    def _usual_depth(self) -> int | None:
        """The depth that is enough for all but USUAL_SHARE of the pictures."""
        within, wanted = 0, (1 - USUAL_SHARE) * self.depths.total()
        for depth, count in sorted(self.depths.items()):
            within += count
            if within >= wanted:
                return depth
        return None

    def vanishes(self, item: Raw) -> bool:
        """A transparent picture, laid over its own colour."""
        return isinstance(item, bytes) and is_transparent(item)

    @property
    def _levels(self) -> Levels:
        return Levels.of(asked=self.count, largest=self.largest)

    def _into(self, item: Raw, spec: ImageSpec) -> Stored:
        side = spec.height if spec.height == spec.width else None
        if isinstance(item, bytes):
            pixels = decode(item, channels=spec.channels, side=side, levels=self._levels)
        else:
            image = Image.fromarray(item[..., 0] if item.shape[2] == 1 else item)
            pixels = refit(to_pixels(to_mode(image, channels=spec.channels)), side=side)
        if pixels.shape != spec.stored_shape:
            raise Unreadable("size", f"{'x'.join(map(str, pixels.shape))}, not {spec.text}")
        return pixels


def _check(side: int | None, levels: int | None) -> None:
    if side is not None and not 1 <= side <= MAX_SIDE:
        raise DataError(f"side {side}", allowed=f"1 to {MAX_SIDE} pixels")
    if levels is not None and not 2 <= levels <= MAX_LEVELS:
        raise DataError(f"levels {levels}", allowed=f"2 to {MAX_LEVELS}: 4096 for twelve bits")
