"""Items as bytes: a file each, a ZIP of those, JSON, NPY, and a grid of their pictures. The same items give the same bytes.

N items; of pictures H height, W width, C channels (1 grey, 3 colour).
"""

import base64
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.core.arrays import Pictures, Stored
from components.core.grid import image_png

GAP_PIXELS = 2
TILE_PIXELS = 64  # a grid is to be looked at: smaller images are magnified to about this, by a whole factor
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a ZIP can hold


def zoom_of(side: int) -> int:
    """By how much a grid magnifies pictures of this longer side."""
    return max(1, TILE_PIXELS // side)


def grid(images: Pictures) -> bytes:
    """One PNG with all of uint8 [N, H, W, C], row by row, about as wide as high; small images are magnified."""
    n, height, width, channels = images.shape
    zoom = zoom_of(max(height, width))
    tiles = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    columns = math.ceil(math.sqrt(n))
    step_y, step_x = height * zoom + GAP_PIXELS, width * zoom + GAP_PIXELS
    sheet = np.full((math.ceil(n / columns) * step_y - GAP_PIXELS, columns * step_x - GAP_PIXELS, channels), 255, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // columns * step_y, k % columns * step_x
        sheet[y : y + height * zoom, x : x + width * zoom] = tile
    return image_png(sheet)


def npy(items: Stored) -> bytes:
    """The array itself, [N, *stored_shape], as numpy.save writes it."""
    buffer = io.BytesIO()
    np.save(buffer, items, allow_pickle=False)
    return buffer.getvalue()


def zipped(files: Sequence[bytes], names: Sequence[str]) -> bytes:
    """A ZIP of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # they are compressed already
        for file, name in zip(files, names, strict=True):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), file)
    return buffer.getvalue()


def as_json(files: Sequence[bytes], seeds: Sequence[int], told: Sequence[Mapping[str, Any]], *, plural: str, form: str) -> bytes:
    """JSON, of images: {"images": [{"seed", "class", "png"}, ...]} with each file in base64; "class" is an id, or null. `told` is
    what is said of each beside its seed."""
    items = [
        {"seed": seed, **said, form: base64.b64encode(file).decode()} for file, seed, said in zip(files, seeds, told, strict=True)
    ]
    return json.dumps({plural: items}).encode()
