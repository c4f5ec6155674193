"""The contact sheet of a prepared folder: some training items of every class, so that a person sees what will be learned.

H, W pixels; C channels. The sheet is for eyes: it lies outside the folder and is no part of the version.
"""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from components.core.modality import find_modality
from components.data.manifest import Manifest
from components.data.shards import ShardedSplit, open_split

COLUMNS = 8
CLASSES_SHOWN = 24
ROWS_WITHOUT_CLASSES = 8
CELL = 64  # pixels of an item's longer side, about
GAP = 4
SAID = 84  # characters of captions above a row
TEXT = 16  # height of a line of text
GROUND = (255, 255, 255)
INK = (40, 40, 40)
EDGE = (200, 200, 200)  # around each item, so that white ones have an end


def sheet_png(folder: Path, manifest: Manifest) -> bytes:
    """A row a class, or a grid of items where there are none, as PNG bytes: evenly spread training items."""
    train = open_split(folder, "train")
    rows = _rows(train, manifest)
    item = manifest.item
    pictures = find_modality(item.modality).pictures
    height, width = _cell(pictures(train.take(np.zeros(1, np.int64)), item).shape[1:])
    sheet_width = max(GAP + COLUMNS * (width + GAP), 360)
    titles = TEXT + 2
    heights = [(TEXT if title else 0) + (height + GAP + 2 if len(indices) else 0) for title, indices in rows]
    sheet = Image.new("RGB", (sheet_width, titles + sum(heights) + GAP), GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    draw.text((GAP, 2), f"{manifest.count:,} items of {item.text}; some of the {len(train):,} training items", INK, font)
    top = titles
    for (title, indices), row_height in zip(rows, heights, strict=True):
        if title:
            draw.text((GAP, top + 2), title, INK, font)
        line = top + (TEXT if title else 0)
        for column, picture in enumerate(pictures(train.take(indices), item)):
            left = GAP + column * (width + GAP)
            draw.rectangle((left - 1, line + 1, left + width, line + 2 + height), outline=EDGE)
            sheet.paste(_thumbnail(picture, (width, height)), (left, line + 2))
        top += row_height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _rows(train: ShardedSplit, manifest: Manifest) -> list[tuple[str, npt.NDArray[np.int64]]]:
    if train.labels is None:
        indices = _spread(np.arange(len(train)), COLUMNS * ROWS_WITHOUT_CLASSES)
        parts = [indices[at : at + COLUMNS] for at in range(0, len(indices), COLUMNS)]
        return [(_said(train, part), part) for part in parts]
    rows = []
    for at, name in enumerate(manifest.classes[:CLASSES_SHOWN]):
        of_class = np.flatnonzero(train.labels == at)
        shown = _spread(of_class, COLUMNS)
        said = _said(train, shown)
        note = f"{name}: {manifest.class_counts[at]:,} items, {len(of_class):,} in training"
        rows.append((f"{note}: {said}" if said else note, shown))
    hidden = len(manifest.classes) - CLASSES_SHOWN
    return rows + ([(f"and {hidden:,} more classes", np.zeros(0, np.int64))] if hidden > 0 else [])


def _said(train: ShardedSplit, indices: npt.NDArray[np.int64]) -> str:
    """The first captions of a row, as many as have room; empty where the data has none."""
    if train.captions is None:
        return ""
    found = list(dict.fromkeys(train.captions[at][0] for at in indices))
    text = " | ".join(found)
    return text if len(text) <= SAID else f"{text[:SAID]}..."


def _spread(indices: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    return indices if len(indices) <= most else indices[np.linspace(0, len(indices) - 1, most).astype(np.int64)]


def _cell(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an item on the sheet: small ones are enlarged by whole numbers, large ones brought down."""
    longer = max(shape[:2])
    factor = max(1, CELL // longer) if longer <= CELL else 1.5 * CELL / longer
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _thumbnail(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("RGB")
    enlarged = size[0] >= image.width
    return image.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC)
