"""A zip of pictures, read in place: nothing is unpacked to disk."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from components.core.errors import DataError
from components.core.progress import Advance
from components.data.images import SUFFIXES
from components.data.sources.item import MAX_FILE_BYTES, Item, Survey, Unreadable
from components.data.sources.survey import check_member, is_hidden, survey_encoded

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)


@dataclass(frozen=True)
class Zip:
    """Folders inside are the classes, as in a folder of pictures."""

    path: Path
    kind: str = "image-zip"

    @property
    def where(self) -> str:
        """The path."""
        return str(self.path)

    def survey(self, advance: Advance) -> Survey:
        """Reads every header. Raises DataError for an empty or damaged archive, or one with members that point outside."""
        found = survey_encoded(self.items(), where=self.where, advance=advance)
        if not found.count:
            raise DataError(f"{self.path}: no pictures in it", allowed=" ".join(sorted(SUFFIXES)))
        return found

    def items(self) -> Iterator[Item]:
        """In the order of the members' names."""
        try:
            archive = zipfile.ZipFile(self.path)
        except DAMAGED as error:
            raise DataError(f"{self.path}: a damaged zip: {error}", do="pack or download it again") from error
        with archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                inside = check_member(info.filename, where=str(self.path))
                if info.is_dir() or is_hidden(inside) or inside.suffix.lower() not in SUFFIXES:
                    continue
                if info.flag_bits & 1:
                    raise DataError(f"{self.path}: {info.filename} is encrypted", do="pack it without a password")
                parent = "" if inside.parent == PurePosixPath() else str(inside.parent)
                yield Item(name=str(inside), read=partial(_read, archive, info), folder=parent)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as member:
            data = member.read(MAX_FILE_BYTES + 1)
    except DAMAGED as error:
        raise Unreadable("damaged", "a damaged member of the zip") from error
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
    return data
