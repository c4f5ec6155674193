"""Images as bytes: PNG, a grid of them, a ZIP of PNGs, JSON, NPY. The same images give the same bytes.

N items, H height, W width, C channels (1 grey, 3 colour).
"""

import base64
import io
import json
import math
import zipfile
from collections.abc import Sequence

import numpy as np
from PIL import Image

from components.core.protocols import Images

GAP_PIXELS = 2
TILE_PIXELS = 64  # a grid is to be looked at: smaller images are magnified to about this, by a whole factor
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a ZIP can hold


def zoom_of(height: int, width: int) -> int:
    """By how much a grid magnifies images of this size."""
    return max(1, TILE_PIXELS // max(height, width))


def png(image_HWC: Images) -> bytes:
    """One PNG of uint8 [H, W, C]."""
    buffer = io.BytesIO()
    Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC).save(buffer, "PNG")
    return buffer.getvalue()


def grid(images: Images) -> bytes:
    """One PNG with all of uint8 [N, H, W, C], row by row, about as wide as high; small images are magnified."""
    n, height, width, channels = images.shape
    zoom = zoom_of(height, width)
    tiles = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    columns = math.ceil(math.sqrt(n))
    step_y, step_x = height * zoom + GAP_PIXELS, width * zoom + GAP_PIXELS
    sheet = np.full((math.ceil(n / columns) * step_y - GAP_PIXELS, columns * step_x - GAP_PIXELS, channels), 255, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // columns * step_y, k % columns * step_x
        sheet[y : y + height * zoom, x : x + width * zoom] = tile
    return png(sheet)


def npy(images: Images) -> bytes:
    """The array itself, uint8 [N, H, W, C], as numpy.save writes it."""
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    return buffer.getvalue()


def zipped(images: Images, names: Sequence[str]) -> bytes:
    """A ZIP of one PNG an image."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
        for image, name in zip(images, names, strict=True):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), png(image))
    return buffer.getvalue()


def as_json(images: Images, seeds: Sequence[int], labels: Sequence[int] | None) -> bytes:
    """JSON: {"images": [{"seed", "class", "png"}, ...]} with each PNG in base64; "class" is an id, or null."""
    items = [
        {"seed": seed, "class": labels[k] if labels else None, "png": base64.b64encode(png(image)).decode()}
        for k, (image, seed) in enumerate(zip(images, seeds, strict=True))
    ]
    return json.dumps({"images": items}).encode()
