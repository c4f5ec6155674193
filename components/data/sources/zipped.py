"""A zip of pictures, read in place: nothing is unpacked to disk."""

import stat
import zipfile
import zlib
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
from components.data.sources.labels import MAX_BYTES, Labels, is_label_file
from components.data.sources.left_alone import LINKS, Tally, kind_of, words
from components.data.sources.names import check_member, is_hidden, shown
from components.data.sources.survey import survey_encoded
from components.runtime.progress import Advance

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)
KIND = "a zip of images"
UTF8 = 0x800  # the flag of a name in UTF-8; any other is cp437 by the format, and UTF-8 from many tools all the same
Member = tuple[PurePosixPath, zipfile.ZipInfo]


@dataclass(frozen=True)
class Zip:
    """Folders inside are the classes, as in a folder of pictures."""

    path: Path
    classes: ClassRule = "auto"
    captions: CaptionRule = "none"
    modality: str = "image"
    locked: bool = False

    @property
    def kind(self) -> str:
        """In dataset.json."""
        return f"{self.modality}-zip"

    @property
    def where(self) -> str:
        """The path."""
        return shown(str(self.path))

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """Reads every header. Raises DataError for an empty or damaged archive, or one with members that point outside."""
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
            instead = f", but {words(left, most=4)}" if left else ""
            raise DataError(f"{self.where}: no pictures in it{instead}", allowed=" ".join(sorted(reader.suffixes)))
        return found

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """In the order of the members' names."""
        return self._walk(Tally(), reader)

    def _walk(self, left: Tally, reader: ItemReader) -> Iterator[Item]:
        try:
            archive = zipfile.ZipFile(self.path)
        except DAMAGED as error:
            raise DataError(f"{self.where}: a damaged zip: {error}", do="pack or download it again") from error
        with archive:
            members = self._members(archive)
            labels, captions = self._labels(archive, members), self._captions(archive, members, reader)
            used, asked = captions.used, captions.asked
            for inside, info in members:
                if inside in labels.read:
                    continue
                if stat.S_ISLNK(info.external_attr >> 16):
                    left[LINKS] += 1
                elif is_hidden(inside) or inside.suffix.lower() not in reader.suffixes:
                    if inside not in used:
                        left[kind_of(inside)] += 1
                    if self.classes == "auto" and inside not in labels.without and inside not in asked:
                        self._check_unread(archive, inside, info, reader.suffixes, left)
                else:
                    yield self._item(archive, inside, info, labels, captions)
            labels.finish(left)
            captions.finish(left)

    def _members(self, archive: zipfile.ZipFile) -> list[Member]:
        """Every file inside, in the order of the names."""
        named = sorted(((_name(info), info) for info in archive.infolist()), key=lambda each: each[0])
        checked = ((check_member(name, where=self.where), name, info) for name, info in named)
        return [(inside, info) for inside, name, info in checked if not name.endswith(("/", "\\"))]

    def _labels(self, archive: zipfile.ZipFile, members: list[Member]) -> Labels:
        """From all the label files inside; none where labels are not wanted."""
        wanted = members if self.classes == "auto" else []
        files = {inside: info for inside, info in wanted if is_label_file(inside) and not stat.S_ISLNK(info.external_attr >> 16)}
        return Labels(
            {inside: partial(self._whole, archive, info, MAX_BYTES) for inside, info in files.items()}, where=self.where
        )

    def _captions(self, archive: zipfile.ZipFile, members: list[Member], reader: ItemReader) -> Captions:
        files = {inside: info for inside, info in members if not stat.S_ISLNK(info.external_attr >> 16)}
        return Captions(
            self.captions,
            files,
            lambda inside: self._whole(archive, files[inside], MAX_BYTES),
            suffixes=reader.suffixes,
            where=self.where,
        )

    def _check_unread(
        self, archive: zipfile.ZipFile, inside: PurePosixPath, info: zipfile.ZipInfo, suffixes: frozenset[str], left: Tally
    ) -> None:
        known = inside.suffix.lower() in SUFFIXES
        if is_hidden(inside):
            return
        try:
            head = self._whole(archive, info, HEAD_BYTES)
        except DataError:
            if known:
                raise
            return  # it is no picture, and need not be readable
        left.hold(inside, head)
        if known:
            check_unread(inside, head, suffixes=suffixes, where=self.where)

    def _whole(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
        """A member that is no picture, up to `most` bytes."""
        self._check_open(info)
        try:
            return _bytes(archive, info, most)
        except DAMAGED as error:
            raise DataError(f"{self.where}: a damaged member: {error}", do="pack or download it again") from error

    def _item(
        self, archive: zipfile.ZipFile, inside: PurePosixPath, info: zipfile.ZipInfo, labels: Labels, captions: Captions
    ) -> Item:
        self._check_open(info)
        read, folder = partial(_read, archive, info), labels.folder_of(inside)
        name, said = shown(str(inside)), captions.of(inside)
        return Item(name=name, read=read, label=labels.of(inside), folder=folder, captions=said)

    def _check_open(self, info: zipfile.ZipInfo) -> None:
        if info.flag_bits & 1:
            raise DataError(f"{self.where}: {shown(_name(info))} is encrypted", do="pack it without a password")


def _name(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return info.filename


def _bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(info) as member:
        return member.read(most)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        data = _bytes(archive, info, MAX_FILE_BYTES + 1)
    except DAMAGED as error:
        raise Unreadable("damaged", "a damaged member of the zip") from error
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
    return data


def claimed(path: Path, opening: Opening) -> Zip | None:
    """A file that is a zip, but for an npz."""
    if path.is_dir() or path.suffix == ".npz" or not (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
        return None
    return Zip(path, classes=opening.classes, captions=opening.captions, modality=opening.modality)
