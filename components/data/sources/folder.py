"""A folder of pictures; its subfolders are the classes, or a label file beside them says which."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from components.core.errors import DataError
from components.core.modality import MAX_FILE_BYTES, ItemReader, Unreadable
from components.data.sources.caption_rules import CaptionRule
from components.data.sources.captions import Captions
from components.data.sources.classes import ClassRule
from components.data.sources.item import Item, Opening, Survey
from components.data.sources.label_like import HEAD_BYTES, SUFFIXES, check_unread
from components.data.sources.label_values import GO_ON
from components.data.sources.labels import MAX_BYTES, Labels, Readers, is_label_file
from components.data.sources.left_alone import BROKEN_LINKS, FOLDER_LINKS, Tally, kind_of, words
from components.data.sources.names import is_hidden, shown
from components.data.sources.survey import survey_encoded
from components.data.sources.tarred import tars_in
from components.runtime.progress import Advance

KIND = "an image folder"
Place = tuple[int, int]  # device and inode: a real folder, by whatever name


@dataclass(frozen=True)
class Folder:
    """Pictures by their suffix, in the order of their names; every other file is left alone, and counted."""

    path: Path
    classes: ClassRule = "auto"
    captions: CaptionRule = "none"
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
            self._walk(left, reader),
            reader,
            where=self.where,
            advance=advance,
            left_alone=left,
            rule=self.classes,
            captions=self.captions,
        )
        if not found.count:
            raise DataError(f"{self.where}: no pictures in it{_instead(left)}", allowed=" ".join(sorted(reader.suffixes)))
        return found

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """Top folder first, then each subfolder, sorted. A link to a folder is followed, each real folder once."""
        return self._walk(Tally(), reader)

    def _walk(self, left: Tally, reader: ItemReader) -> Iterator[Item]:
        labels, captions = Labels(self._label_files(), where=self.where), self._captions(reader)
        used, asked = captions.used, captions.asked
        for path in self._files(left):
            inside = PurePosixPath(path.relative_to(self.path).as_posix())
            if inside in labels.read:
                continue
            if is_hidden(inside) or path.suffix.lower() not in reader.suffixes:
                if inside not in used:
                    left[BROKEN_LINKS if path.is_symlink() and not path.exists() else kind_of(inside)] += 1
                if self.classes == "auto" and inside not in labels.without and inside not in asked:
                    self._check_unread(path, inside, reader.suffixes, left)
                continue
            read, folder = partial(_read, path), labels.folder_of(inside)
            name, said = shown(str(inside)), captions.of(inside)
            yield Item(name=name, read=read, label=labels.of(inside), folder=folder, captions=said)
        labels.finish(left)
        captions.finish(left)

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

    def _label_files(self) -> Readers:
        """Those of the set, wherever they lie; none where labels are not wanted."""
        if self.classes != "auto":
            return {}
        places = ((path, PurePosixPath(path.relative_to(self.path).as_posix())) for path in self._files(Tally()))
        return {inside: partial(_label_bytes, path) for path, inside in places if is_label_file(inside) and path.is_file()}

    def _captions(self, reader: ItemReader) -> Captions:
        places = (path for path in self._files(Tally()) if path.is_file())
        files = (PurePosixPath(path.relative_to(self.path).as_posix()) for path in places)
        return Captions(
            self.captions, files, lambda inside: _label_bytes(self.path / inside), suffixes=reader.suffixes, where=self.where
        )

    def _check_unread(self, path: Path, inside: PurePosixPath, suffixes: frozenset[str], left: Tally) -> None:
        known = inside.suffix.lower() in SUFFIXES
        if is_hidden(inside) or not path.is_file() or not (known or os.access(path, os.R_OK)):
            return
        head = _label_bytes(path, HEAD_BYTES)
        left.hold(inside, head)
        if known:
            check_unread(inside, head, suffixes=suffixes, where=self.where)

    def _refuse(self, error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}", do="give it read permission") from error


def _place(folder: Path) -> Place:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _instead(left: Tally) -> str:
    return f", but {words(left, most=4)}" if left else ""


def _label_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise DataError(
            f"{shown(str(path))}: cannot be read: {error.strerror}", do=f"give it read permission; {GO_ON}"
        ) from error


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
    return Folder(path, classes=opening.classes, captions=opening.captions, modality=opening.modality)
