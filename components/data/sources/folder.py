"""A folder of pictures; its subfolders are the classes, or a label file beside them says which."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from components.core.errors import DataError
from components.core.modality import MAX_FILE_BYTES, ItemReader, Unreadable
from components.data.sources.classes import ClassRule
from components.data.sources.item import Item, Opening, Survey
from components.data.sources.labels import find_labels
from components.data.sources.left_alone import BROKEN_LINKS, FOLDER_LINKS, Tally, kind_of, words
from components.data.sources.names import is_hidden, shown
from components.data.sources.survey import parent_of, survey_encoded
from components.data.sources.tarred import tars_in
from components.runtime.progress import Advance

KIND = "a folder of images"
Place = tuple[int, int]  # device and inode: a real folder, by whatever name


@dataclass(frozen=True)
class Folder:
    """Pictures by their suffix, in the order of their names; every other file is left alone, and counted."""

    path: Path
    classes: ClassRule = "auto"
    modality: str = "image"
    locked: bool = False

    @property
    def kind(self) -> str:
        """In dataset.json."""
        return f"{self.modality}-folder"

    @property
    def where(self) -> str:
        """The path."""
        return shown(str(self.path))

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """Reads every header. Raises DataError for an empty folder."""
        left = Tally()
        found = survey_encoded(
            self._walk(left, reader), reader, where=self.where, advance=advance, left_alone=left, rule=self.classes
        )
        if not found.count:
            raise DataError(f"{self.where}: no pictures in it{_instead(left)}", allowed=" ".join(sorted(reader.suffixes)))
        return found

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """Top folder first, then each subfolder, sorted. A link to a folder is followed, each real folder once."""
        return self._walk(Tally(), reader)

    def _walk(self, left: Tally, reader: ItemReader) -> Iterator[Item]:
        labels = find_labels(self._label_file, where=self.where)
        for path in self._files(left):
            inside = PurePosixPath(path.relative_to(self.path).as_posix())
            if str(inside) == labels.file:
                continue
            if is_hidden(inside) or path.suffix.lower() not in reader.suffixes:
                left[BROKEN_LINKS if path.is_symlink() and not path.exists() else kind_of(inside)] += 1
                continue
            folder = "" if labels.deny_folders else parent_of(inside)
            yield Item(name=shown(str(inside)), read=partial(_read, path), label=labels.of(inside), folder=folder)
        labels.count_unused(left)

    def _files(self, left: Tally) -> Iterator[Path]:
        read = self._real_folders()
        for at, folders, files in os.walk(self.path, onerror=self._refuse, followlinks=True):
            folders[:] = [name for name in sorted(folders) if self._enter(Path(at, name), read, left)]
            yield from (Path(at, name) for name in sorted(files))

    def _enter(self, folder: Path, read: set[Place], left: Tally) -> bool:
        """Whether to go into a folder: not by a link to one that is read under its own or another name, which could be a loop."""
        if not folder.is_symlink():
            read.add(_place(folder))  # of a linked folder; those of the tree itself are known
            return True
        place = _place(folder)
        if place in read:
            left[FOLDER_LINKS] += 1
            return False
        read.add(place)
        return True

    def _real_folders(self) -> set[Place]:
        """All folders below that are no links, so that a link to one of them is not taken in its stead."""
        return {_place(Path(at)) for at, _, _ in os.walk(self.path)}

    def _label_file(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def _refuse(self, error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}", do="give it read permission") from error


def _place(folder: Path) -> Place:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _instead(left: Tally) -> str:
    return f", but {words(left, most=4)}" if left else ""


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise Unreadable("unreadable", "not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable("unreadable", error.strerror or "cannot be read") from error


def claimed(path: Path, opening: Opening) -> Folder | None:
    """A folder, but for one of tars."""
    if not path.is_dir() or tars_in(path):
        return None
    return Folder(path, classes=opening.classes, modality=opening.modality)
