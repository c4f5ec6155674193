"""Pictures of pictures: a grid of images as PNG bytes, enlarged without smoothing. Imports Pillow only when it draws."""

import io

import numpy as np
import numpy.typing as npt

from components.core.arrays import Pictures
from components.core.errors import RunError

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
GAP_PIXELS = 2  # after enlarging
GAP_GREY = 128  # neither black nor white, so that an edge shows on both
PAPER = 255  # where a last row has no more images


def grid_png(images: Pictures, columns: int = 8, scale: int | None = None) -> bytes:
    """`grid_image` as PNG bytes."""
    return _png(grid_image(images, columns, scale))


def grid_image(images: Pictures, columns: int = 8, scale: int | None = None) -> npt.NDArray[np.uint8]:
    """The images, row by row, as one [H, W, C]. `scale` enlarges each pixel; None: so that an image is about 64 pixels wide.

    A last row that is not full ends in white, or clear where there is an alpha channel. Raises RunError when there is nothing to
    show.
    """
    if images.ndim != 4 or not len(images) or images.shape[3] not in MODES or columns < 1:
        raise RunError(f"a grid of shape {images.shape} in {columns} columns cannot be drawn", allowed="[N, H, W, 1 to 4], N > 0")
    columns = min(columns, len(images))
    scale = scale or scale_for(images)
    return _tile(images.repeat(scale, axis=1).repeat(scale, axis=2), columns)


def scale_for(images: Pictures) -> int:
    """How often a pixel is repeated, so that an image is about 64 pixels wide."""
    return max(1, round(64 / int(images.shape[2])))


def filling(count: int, *, most: int) -> int:
    """Columns, at most `most` and at least half of them, that leave no cell of the last row empty; `most` where none do.

    >>> filling(64, most=12), filling(10, most=8)
    (8, 5)
    """
    return next((columns for columns in range(most, (most - 1) // 2, -1) if count % columns == 0), most)


def image_png(image: npt.NDArray[np.uint8]) -> bytes:
    """One image, uint8 [H, W, C], as PNG bytes in its own size."""
    return _png(image)


def _tile(images: Pictures, columns: int) -> npt.NDArray[np.uint8]:
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    step_y, step_x = height + GAP_PIXELS, width + GAP_PIXELS
    canvas = np.full((rows * step_y - GAP_PIXELS, columns * step_x - GAP_PIXELS, channels), GAP_GREY, np.uint8)
    if n % columns:
        canvas[(rows - 1) * step_y :, n % columns * step_x :] = PAPER
    if channels in (2, 4):
        canvas[..., -1] = 0  # gaps are clear where there is an alpha channel
    for index, image in enumerate(images):
        y, x = index // columns * step_y, index % columns * step_x
        canvas[y : y + height, x : x + width] = image
    return canvas


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
