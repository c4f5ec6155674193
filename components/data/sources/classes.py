"""What the classes of a set are: its labels, or else its folders. docs/data.md has the rules as a table."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal

from components.core.errors import DataError
from components.data.sources.names import numbers_first, shown
from components.data.sources.split_names import look_like_splits

ClassRule = Literal["auto", "folders", "none"]
CLASS_RULES: tuple[ClassRule, ...] = ("auto", "folders", "none")
MAX_CLASSES = 100_000
CHUNK = re.compile(r"(?:(?:part|chunk|shard|batch|block|split|folder|dir)[-_ ]?)?(\d{3,})", re.IGNORECASE)
NAMED_CHUNK = re.compile(r"((?:.*[-_ ])?(?:part|chunk|shard|batch|fold)[-_ ]?)\d+|(?-i:(?!000)\d{3})[A-Z_]{5}", re.IGNORECASE)
TOP = "the top folder"


class RunningNumbers:
    """The numbers that file names end with, as the range of each folder: chunks of one series continue each other's."""

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[int, int] | None] = {}

    def add(self, folder: str, name: str) -> None:
        """Count one picture."""
        found = re.search(r"(\d{1,18})$", PurePosixPath(name).stem)
        low, high = self.ranges.get(folder, (1 << 62, -1)) or (0, 0)
        if found is None or self.ranges.get(folder, ()) is None:
            self.ranges[folder] = None
        else:
            self.ranges[folder] = min(low, int(found[1])), max(high, int(found[1]))

    def are_chunks(self, names: Mapping[str, str]) -> bool:
        """Whether folders (-> their class) are mere chunks: numbered, and each goes on with the numbers of the one before."""
        if _are_named_chunks(names.values()):
            return True
        inside: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for folder, name in names.items():
            numbers = self.ranges.get(folder)
            if numbers is None or CHUNK.fullmatch(name) is None:
                return False
            inside[name].append(numbers)
        order = sorted(inside, key=_number)
        ranges = [(min(low for low, _ in inside[name]), max(high for _, high in inside[name])) for name in order]
        one_width = len({len(name) for name in inside}) == 1
        return one_width and all(before[1] < after[0] for before, after in pairwise(ranges))


def _are_named_chunks(names: Iterable[str]) -> bool:
    """Folders that say by their names that they are pieces of one set: part_1 and part_2, a camera's 100APPLE."""
    found = [NAMED_CHUNK.fullmatch(name) for name in names]
    return all(found) and len({(each[1] or "").lower() for each in found if each}) == 1


def _number(name: str) -> int:
    found = CHUNK.fullmatch(name)
    assert found is not None
    return int(found[1])


def classes_of_folders(
    folders: Iterable[str], *, where: str, numbers: RunningNumbers | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Folder -> class: the first name below what all folders share; and a note. One folder alone is no class. Raises DataError.

    Folders that are chunks of one numbered series (`numbers`) are no classes, and splits are refused; without `numbers` the
    folders were asked for.
    """
    folders = set(folders)
    if len(folders) < 2:
        return {}, ()
    shared = PurePosixPath(os.path.commonpath(folders))
    names = {}
    for folder in folders:
        below = PurePosixPath(folder).relative_to(shared).parts if folder else ()
        if not below:
            raise DataError(
                f"{where}: pictures lie both in {shown(folder) or TOP} and in folders below it",
                do="put each picture into the folder of its class, or give --classes none",
            )
        names[folder] = below[0]
    if numbers is not None and look_like_splits(set(names.values())):
        raise DataError(
            f"{where}: {', '.join(map(shown, sorted(set(names.values()))[:8]))} look like splits, not classes",
            do="name one of these folders, or merge what is in them: genwright splits by itself; --classes folders takes them as "
            "classes, --classes none all without",
        )
    if numbers is not None and numbers.are_chunks(names):
        first, last = min(names.values()), max(names.values())
        note = (
            f"folders {first} to {last} are chunks of one numbered series, not classes (--classes folders takes them as classes)"
        )
        return {}, (note,)
    return names, ()


def ordered(keys: Mapping[str, str], *, where: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Labels or folders (-> their name) as class names that can be stored anywhere, and key -> class. Raises DataError."""
    written = {name: shown(name) for name in set(keys.values())}
    if len(set(written.values())) < len(written):
        twice = next(name for name in written.values() if list(written.values()).count(name) > 1)
        raise DataError(f"{where}: two classes would both be written {twice!r}", do="rename one of them")
    classes = tuple(sorted(written.values(), key=numbers_first))
    at = {name: position for position, name in enumerate(classes)}
    return classes, {key: at[written[name]] for key, name in keys.items()}


def look_alikes(classes: Iterable[str]) -> list[str]:
    """Class names that differ only in case, in spaces or in how an accent is written: 'Cat, cat'."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[unicodedata.normalize("NFKC", name).casefold().strip()].append(name)
    return [", ".join(names) for names in alike.values() if len(names) > 1]
