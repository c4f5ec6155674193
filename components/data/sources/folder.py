"""A folder of pictures; its subfolders are the classes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from components.core.errors import DataError
from components.core.progress import Advance
from components.data.images import SUFFIXES
from components.data.sources.item import MAX_FILE_BYTES, Item, Survey, Unreadable
from components.data.sources.survey import is_hidden, survey_encoded


@dataclass(frozen=True)
class Folder:
    """Pictures by their suffix, in the order of their names; hidden files and everything else is left alone."""

    path: Path
    kind: str = "image-folder"

    @property
    def where(self) -> str:
        """The path."""
        return str(self.path)

    def survey(self, advance: Advance) -> Survey:
        """Reads every header. Raises DataError for an empty folder."""
        found = survey_encoded(self.items(), where=self.where, advance=advance)
        if not found.count:
            raise DataError(f"{self.path}: no pictures in it", allowed=" ".join(sorted(SUFFIXES)))
        return found

    def items(self) -> Iterator[Item]:
        """Top folder first, then each subfolder, sorted. Symbolic links to folders are not followed: they could be loops."""
        for at, folders, files in os.walk(self.path, onerror=self._refuse):
            folders.sort()
            for name in sorted(files):
                path = Path(at, name)
                inside = PurePosixPath(path.relative_to(self.path).as_posix())
                if path.suffix.lower() in SUFFIXES and not is_hidden(inside):
                    parent = "" if inside.parent == PurePosixPath() else str(inside.parent)
                    yield Item(name=str(inside), read=partial(_read, path), folder=parent)

    def _refuse(self, error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}", do="give it read permission") from error


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise Unreadable("unreadable", "not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable("unreadable", error.strerror or "cannot be read") from error
