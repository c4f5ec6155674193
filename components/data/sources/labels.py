"""The labels of a set of files: all its label files together, matched to pictures by name. How they are written, label_files.py
knows.

The names in a label file are relative to its folder. Two names are one if they differ only in how accents are written, in `\\`
for `/`, or in a leading `./`.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.data.sources.label_files import FILES, read_labels
from components.data.sources.label_values import GO_ON
from components.data.sources.left_alone import Tally
from components.data.sources.names import is_hidden, shown
from components.data.sources.survey import parent_of

MAX_BYTES = 512 << 20
Readers = Mapping[PurePosixPath, Callable[[], bytes]]  # label files by their path in the set


def is_label_file(inside: PurePosixPath) -> bool:
    """Whether a file has the name of one."""
    return inside.name in FILES and not is_hidden(inside)


class Labels:
    """Picture (its path in the set) -> label. Raises DataError for files that cannot be read or contradict each other."""

    def __init__(self, files: Readers, *, where: str) -> None:
        self.where = where
        self.read: set[PurePosixPath] = set()  # files whose labels are used, or that say that there are none
        self.without: set[PurePosixPath] = set()  # metadata in which no row has a label
        self._denied: set[PurePosixPath] = set()  # folders whose file says that there are no labels
        self._found: dict[str, tuple[str, PurePosixPath]] = {}
        self._given: Counter[PurePosixPath] = Counter()
        self._used: Counter[PurePosixPath] = Counter()
        self._pictures = 0
        for path, data in files.items():
            self._add(path, data())

    def of(self, inside: PurePosixPath) -> str | None:
        """The label of a picture, None without one. To be asked once for each."""
        self._pictures += 1
        label, file = self._found.get(key_of_name(inside), (None, PurePosixPath()))
        self._used[file] += label is not None
        return label

    def folder_of(self, inside: PurePosixPath) -> str:
        """The folder that may be the class of a picture: none below one whose file says that there are no labels."""
        denied = next((parent for parent in inside.parents if parent in self._denied), None)
        return parent_of(inside) if denied is None else parent_of(denied / "x")

    def finish(self, tally: Tally) -> None:
        """Count the labels that no picture took. Raises DataError for a file whose names are of no picture at all."""
        for file, given in self._given.items():
            if self._pictures and not self._used[file]:
                first = next(name for name, (_, path) in self._found.items() if path == file)
                raise DataError(
                    f"{self.where}: {shown(str(file))}: none of its {given:,} labels is of a picture here, first {shown(first)}",
                    allowed="names relative to the folder of the file, as the files are spelt",
                    do=f"mend the names; {GO_ON}",
                )
            if (left := given - self._used[file]) > 0:
                tally[f"labels without a picture in {shown(str(file))}"] += left

    def _add(self, path: PurePosixPath, data: bytes) -> None:
        pairs = read_labels(data, file=path.name, at=f"{self.where}: {shown(str(path))}")
        if pairs is None:
            return
        if not pairs and path.name != "dataset.json":
            self.without.add(path)
            return
        self.read.add(path)
        if not pairs:
            self._denied.add(path.parent)
        for name, label in pairs:
            self._add_one(key_of_name(path.parent / name.replace("\\", "/")), label, path)

    def _add_one(self, key: str, label: str, path: PurePosixPath) -> None:
        if key not in self._found:
            self._found[key] = label, path
            self._given[path] += 1
        elif (before := self._found[key][0]) != label:
            raise DataError(
                f"{self.where}: {shown(str(path))}: {shown(key)} has the labels {shown(before)!r} and {shown(label)!r}",
                do=f"keep one label a picture; {GO_ON}",
            )


def key_of_name(inside: PurePosixPath) -> str:
    """What two spellings of a path in the set share."""
    return unicodedata.normalize("NFC", str(inside).replace("\\", "/"))
