"""The first pass over encoded pictures: how many, how large, grey or coloured, which classes. Decodes headers only."""

import os
from collections.abc import Iterable
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.core.progress import Advance
from components.data.images import header_of
from components.data.sources.item import Item, Survey, Unreadable

SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
MAX_CLASSES = 100_000


def survey_encoded(items: Iterable[Item], *, where: str, advance: Advance) -> Survey:
    """Survey pictures whose classes are their labels, or else their folders. Raises DataError for a set at odds with itself."""
    count, unlabelled, grey = 0, 0, True
    labels: set[str] = set()
    folders: set[str] = set()
    sizes: dict[tuple[int, int], None] = {}
    for item in items:
        count += 1
        advance(1)
        try:
            data = item.read()
            assert isinstance(data, bytes)
            header = header_of(data)
        except Unreadable:
            continue  # the second pass puts it into quarantine
        if len(sizes) < 2:
            sizes[header.size] = None
        grey = grey and header.grey
        if item.label is None:
            unlabelled += 1
            folders.add(item.folder or "")
        else:
            labels.add(item.label)
        if len(labels) > MAX_CLASSES or len(folders) > MAX_CLASSES:
            raise DataError(f"{where}: more than {MAX_CLASSES} classes", do="put pictures of one class into one folder")
    if labels and unlabelled:
        raise DataError(f"{where}: {unlabelled} pictures have no class and others have one", do="give each a .cls, or none")
    names = {label: label for label in labels} if labels else classes_of_folders(folders, where=where)
    classes = tuple(sorted(set(names.values()), key=numbers_first))
    at = {name: position for position, name in enumerate(classes)}
    return Survey(
        count=count,
        size=next(iter(sizes)) if len(sizes) == 1 else None,
        channels=1 if grey else 3,
        classes=classes,
        index={key: at[name] for key, name in names.items()},
        mixed=" and ".join(f"{height}x{width}" for height, width in sizes),
    )


def classes_of_folders(folders: Iterable[str], *, where: str) -> dict[str, str]:
    """Folder -> class: the first name below what all folders share. One folder alone is no class. Raises DataError."""
    folders = set(folders)
    if len(folders) < 2:
        return {}
    shared = PurePosixPath(os.path.commonpath(folders))
    names = {}
    for folder in folders:
        below = PurePosixPath(folder).relative_to(shared).parts if folder else ()
        if not below:
            raise DataError(
                f"{where}: pictures lie both in {folder or 'the top folder'} and in folders below it",
                do="put each picture into the folder of its class, or all into one folder",
            )
        names[folder] = below[0]
    if {name.lower() for name in names.values()} <= SPLIT_NAMES:
        raise DataError(
            f"{where}: {', '.join(sorted(set(names.values())))} look like splits, not classes",
            do="name one of these folders, or merge them: genwright splits by itself",
        )
    return names


def numbers_first(name: str) -> tuple[int, int, str]:
    """A sort key: whole numbers by value, before every other name."""
    return (0, int(name), name) if name.isascii() and name.isdigit() and len(name) < 10 else (1, 0, name)


def check_member(name: str, *, where: str) -> PurePosixPath:
    """The path of an archive's member. Raises DataError for one that would leave the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise DataError(f"{where}: member {name!r} points outside the archive", do="do not use this archive; pack it anew")
    return path


def is_hidden(path: PurePosixPath) -> bool:
    """Files that systems leave behind: .DS_Store, ._x.png, __MACOSX."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)
