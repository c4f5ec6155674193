"""A user's own images, read into memory in the shape that a model takes: one picture, a folder, a zip, a tar or an npz.

N items, H, W pixels, C channels.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.core.errors import DataError
from components.core.protocols import Images
from components.data.images import SUFFIXES, decode, header_of, refit, to_mode, to_pixels
from components.data.levels import Levels
from components.data.sources.find import find_source
from components.data.sources.item import Item, Pixels, Survey, Unreadable


@dataclass(frozen=True)
class ReadImages:
    """A core.protocols.ImageSplit in memory, and what each image is called."""

    images: Images
    labels: npt.NDArray[np.int64] | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: npt.NDArray[np.int64]) -> Images:
        """The images at `indices`, uint8 [len(indices), H, W, C]."""
        return self.images[indices]


def read_images(where: Path, *, shape: tuple[int, int, int], classes: Sequence[str] = (), at_most: int) -> ReadImages:
    """The first `at_most` images at `where`, each as [H, W, C]: of another size, its centre square is resized.

    `classes`: where these are given, each image's class is looked for among them by its folder or label.
    Raises DataError for what is no source of images, for an image that cannot be read, and for a class that is not there.
    """
    if where.is_file() and where.suffix.lower() in SUFFIXES:
        item = Item(name=where.name, read=where.read_bytes)
        return ReadImages(np.stack([_pixels(item, where, shape, _levels([item]))]), None, (where.name,))
    source = find_source(where, cache=where, mirror=None, progress=False)
    survey = source.survey(lambda items: None) if classes else None
    levels = _levels(islice(source.items(), at_most))
    images, labels, names = [], [], []
    for item in islice(source.items(), at_most):
        images.append(_pixels(item, where, shape, levels))
        names.append(item.name)
        if survey and survey.classes:
            labels.append(_label(item, survey, classes, where))
    if not images:
        raise DataError(f"{where}: no images in it")
    return ReadImages(np.stack(images), np.array(labels, np.int64) if labels else None, tuple(names))


def _levels(items: Iterable[Item]) -> Levels:
    """How many levels these pictures have, as preparation would find it."""
    largest: list[int] = []
    for item in items:
        with suppress(Unreadable, OSError):  # named when its turn comes
            data = item.read()
            found = header_of(data).largest if isinstance(data, bytes) else None
            largest += [] if found is None else [found]
    return Levels.of(asked=None, largest=max(largest, default=None))


def _pixels(item: Item, where: Path, shape: tuple[int, int, int], levels: Levels) -> Pixels:
    height, width, channels = shape
    side = height if height == width else None
    try:
        data = item.read()
        pixels = (
            decode(data, channels=channels, side=side, levels=levels)
            if isinstance(data, bytes)
            else _fitted(data, channels, side)
        )
    except (Unreadable, OSError) as error:
        raise DataError(f"{where}: {item.name}: {error}", do="remove it or write it again") from error
    if pixels.shape != shape:
        raise DataError(f"{where}: {item.name} is {'x'.join(map(str, pixels.shape))}", allowed="x".join(map(str, shape)))
    return pixels


def _fitted(pixels: Pixels, channels: int, side: int | None) -> Pixels:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return refit(to_pixels(to_mode(image, channels=channels)), side=side)


def _label(item: Item, survey: Survey, classes: Sequence[str], where: Path) -> int:
    at = survey.class_of(item)
    name = survey.classes[at] if at is not None else ""
    if name not in classes:
        raise DataError(f"{where}: {item.name} is of class {name!r}", allowed=", ".join(classes[:20]))
    return list(classes).index(name)
