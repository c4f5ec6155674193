"""A grid of images with the names of its rows on the left and of its columns above. Imports Pillow only when it draws."""

from collections.abc import Sequence
from typing import Any

from components.core.arrays import Pictures
from components.core.errors import RunError
from components.core.grid import GAP_PIXELS, grid_image, image_png, scale_for

FONT_PIXELS = 13
MARGIN_PIXELS = 6
PAPER, INK = (255, 255, 255), (40, 40, 40)


def labelled_png(images: Pictures, *, rows: Sequence[str], columns: Sequence[str]) -> bytes:
    """PNG bytes of images [R * C, H, W, 1 to 4], row by row, each row and column under its name; an empty name says nothing.

    A column whose name is wider than the images takes every second, third, ... name only. Raises RunError where the images are
    not as many as the names.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    if len(images) != len(rows) * len(columns):
        raise RunError(f"{len(images)} images in {len(rows)} named rows of {len(columns)}", do="name each row and column")
    font = ImageFont.load_default(FONT_PIXELS)
    grid = _rgb(grid_image(images, len(columns)))
    scale = scale_for(images)
    step_y, step_x = (side * scale + GAP_PIXELS for side in images.shape[1:3])
    left = _widest(font, rows) + (2 * MARGIN_PIXELS if any(rows) else 0)
    top = FONT_PIXELS + 2 * MARGIN_PIXELS if any(columns) else 0
    right = max(0, _widest(font, columns[-1:]) - step_x)
    canvas = Image.new("RGB", (left + grid.width + right, top + grid.height), PAPER)
    canvas.paste(grid, (left, top))
    draw = ImageDraw.Draw(canvas)
    for at, name in enumerate(rows):
        draw.text((MARGIN_PIXELS, top + at * step_y + step_y // 2), name, INK, font, anchor="lm")
    every = max(1, -(-(_widest(font, columns) + MARGIN_PIXELS) // step_x))
    for at in range(0, len(columns), every):
        draw.text((left + at * step_x, MARGIN_PIXELS), columns[at], INK, font, anchor="lt")
    return image_png(np.asarray(canvas))


def _widest(font: Any, names: Sequence[str]) -> int:
    return max((round(font.getlength(name)) for name in names), default=0)


def _rgb(grid: Any) -> Any:
    """As an opaque picture; what is clear is paper."""
    from PIL import Image

    image = Image.fromarray(grid[..., 0] if grid.shape[2] == 1 else grid).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*PAPER, 255)), image).convert("RGB")
