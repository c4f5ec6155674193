"""A user's own items, read into memory in the shape that a model takes: one file, a folder, a zip, a tar or an npz.

N items, stored as the spec says.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.errors import DataError
from components.core.item import ItemSpec
from components.core.modality import ItemReader, Unreadable, find_modality
from components.data.sources.find import find_source
from components.data.sources.item import Item, Opening, Survey


@dataclass(frozen=True)
class ReadItems:
    """A core.protocols.ItemSplit in memory, and what each item is called."""

    item: ItemSpec
    images: Stored
    labels: npt.NDArray[np.int64] | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        """The items at `indices`, [len(indices), *stored_shape]."""
        return self.images[indices]


def read_items(where: Path, *, item: ItemSpec, classes: Sequence[str] = (), at_most: int) -> ReadItems:
    """The first `at_most` items at `where`, each as [*stored_shape]; an image of another size has its centre square resized.

    `classes`: where these are given, each item's class is looked for among them by its folder or label.
    Raises DataError for what is no source of items, for an item that cannot be read, and for a class that is not there.
    """
    modality = find_modality(item.modality)
    reader = modality.reader({}, into=item)
    if where.is_file() and where.suffix.lower() in reader.suffixes:
        one = Item(name=where.name, read=where.read_bytes)
        _look(reader, [one])
        return ReadItems(item, np.stack([_read(reader, one, where)]), None, (where.name,))
    source = find_source(where, Opening(cache=where, modality=item.modality, classes="auto" if classes else "none"))
    survey = source.survey(modality.reader({}), lambda items: None) if classes else None
    _look(reader, islice(source.items(reader), at_most))
    found, labels, names = [], [], []
    for one in islice(source.items(reader), at_most):
        found.append(_read(reader, one, where))
        names.append(one.name)
        if survey and survey.classes:
            labels.append(_label(one, survey, classes, where))
    if not found:
        raise DataError(f"{where}: no {modality.plural} in it")
    return ReadItems(item, np.stack(found), np.array(labels, np.int64) if labels else None, tuple(names))


def _look(reader: ItemReader, items: Iterable[Item]) -> None:
    """Let the reader see them, as a preparation would."""
    for item in items:
        with suppress(Unreadable, OSError):  # named when its turn comes
            reader.look(item.read())


def _read(reader: ItemReader, item: Item, where: Path) -> Stored:
    try:
        return reader.read(item.read())
    except (Unreadable, OSError) as error:
        raise DataError(f"{where}: {item.name}: {error}", do="remove it or write it again") from error


def _label(item: Item, survey: Survey, classes: Sequence[str], where: Path) -> int:
    at = survey.class_of(item)
    name = survey.classes[at] if at is not None else ""
    if name not in classes:
        raise DataError(f"{where}: {item.name} is of class {name!r}", allowed=", ".join(classes[:20]))
    return list(classes).index(name)
