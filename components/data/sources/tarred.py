"""Tars of pictures and WebDataset tars, read as streams: nothing is unpacked to disk.

Without any label the folders inside are the classes. What a sample is, samples.py knows.
"""

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from components.core.errors import DataError
from components.core.modality import MAX_FILE_BYTES, ItemReader, find_modality
from components.data.sources.caption_rules import CaptionRule
from components.data.sources.classes import ClassRule
from components.data.sources.item import Item, Opening, Survey
from components.data.sources.label_like import HEAD_BYTES, check_unread
from components.data.sources.label_like import SUFFIXES as LABEL_LIKE
from components.data.sources.left_alone import HIDDEN, LINKS, Tally, kind_of, words
from components.data.sources.names import check_member, is_hidden, shown
from components.data.sources.sample_labels import MAX_LABEL_BYTES
from components.data.sources.samples import Member, Samples
from components.data.sources.survey import LABEL_SUFFIXES, survey_encoded
from components.runtime.progress import Advance

DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)
KIND = "a tar of images or WebDataset tars"
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Tars:
    """One tar (plain, gz, bz2, xz) or the shards of a set, in order. `beside`: other files in the folder of the shards."""

    paths: tuple[Path, ...]
    classes: ClassRule = "auto"
    captions: CaptionRule = "none"
    modality: str = "image"
    locked: bool = False
    beside: tuple[Path, ...] = ()

    @property
    def kind(self) -> str:
        """In dataset.json."""
        return f"{self.modality}-tar"

    @property
    def where(self) -> str:
        """The path."""
        return shown(str(self.paths[0]))

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """Reads every header. Raises DataError for an empty or damaged archive, or one with members that point outside."""
        left = Tally(kind_of(PurePosixPath(each.name)) for each in self.beside)
        for each in self.beside if self.classes == "auto" else ():
            if not is_hidden(PurePosixPath(each.name)) and os.access(each, os.R_OK):
                with each.open("rb") as file:
                    left.hold(PurePosixPath(each.name), file.read(HEAD_BYTES))
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
        """In the order of the archives. One sample is held at a time."""
        return self._walk(Tally(), reader)

    def _walk(self, left: Tally, reader: ItemReader) -> Iterator[Item]:
        samples = Samples(
            where=self.where,
            suffixes=reader.suffixes,
            left=left,
            want_labels=self.classes == "auto",
            captions=self.captions,
        )
        for path in self.paths:
            try:
                yield from samples.of(_members(path, left, reader.suffixes), tar=path.name)
            except DAMAGED as error:
                raise DataError(f"{shown(str(path))}: a damaged tar: {error}", do="pack or download it again") from error
        samples.finish()


def _members(path: Path, left: Tally, suffixes: frozenset[str]) -> Iterator[Member]:
    """Members of a tar, each read up to the limit of its kind.

    Raises DataError for a member that points outside.
    """
    where = shown(str(path))
    with (
        _unpacked(path) as stream,
        tarfile.open(
            fileobj=cast("IO[bytes]", watched := _Watched(stream)), mode="r|", encoding="utf-8", errors="surrogateescape"
        ) as tar,
    ):
        for member in tar:
            inside = check_member(member.name, where=where)
            if member.isfile() and not is_hidden(inside):
                yield inside, _data(tar, member, inside, suffixes)
            elif not member.isdir():
                left[HIDDEN if is_hidden(inside) else LINKS] += 1
            tar.members = []  # type: ignore[attr-defined]  # else it keeps a record of every member it has passed
        # tarfile takes a damaged header, or the end of the file between two members, for the end of the archive.
        if watched.block(tar.offset) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends without an end mark, or is damaged before it")


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo, inside: PurePosixPath, suffixes: frozenset[str]) -> bytes:
    limits = dict.fromkeys(LABEL_SUFFIXES, MAX_LABEL_BYTES + 1) | dict.fromkeys(LABEL_LIKE, HEAD_BYTES)
    limit = MAX_FILE_BYTES + 1 if inside.suffix.lower() in suffixes else limits.get(inside.suffix.lower(), HEAD_BYTES)
    reader = tar.extractfile(member)
    data = reader.read(limit) if reader else b""
    if len(data) < min(limit, member.size):
        raise tarfile.ReadError(f"it ends inside {shown(member.name)}")
    return data


def _unpacked(path: Path) -> IO[bytes]:
    """The tar inside a file that may be compressed, by its first bytes."""
    with path.open("rb") as file:
        magic = file.read(6)
    for mark, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if magic.startswith(mark):
            return cast("IO[bytes]", opener(path))
    return path.open("rb")


class _Watched:
    """A stream that remembers what was read last."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.last = b""
        self.at = 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.last = (self.last + data)[-2 * tarfile.RECORDSIZE :]
        self.at += len(data)
        return data

    def block(self, offset: int) -> bytes:
        """The block at `offset` bytes from the start."""
        start = offset - (self.at - len(self.last))
        return self.last[start : start + tarfile.BLOCKSIZE]


def tars_in(folder: Path) -> tuple[Path, ...]:
    """The tars of a folder, in order."""
    return tuple(entry for entry in sorted(folder.iterdir()) if entry.name.endswith(TAR_SUFFIXES) and entry.is_file())


def claimed(path: Path, opening: Opening) -> Tars | None:
    """A tar, or a folder of them. Raises DataError for a folder that holds items too: one of the two would be passed over."""
    of = {"classes": opening.classes, "captions": opening.captions, "modality": opening.modality}
    if not path.is_dir():
        named = path.suffix not in (".npz", ".zip") and (path.name.endswith(TAR_SUFFIXES) or tarfile.is_tarfile(path))
        return Tars((path,), **of) if named else None  # type: ignore[arg-type]
    if not (tars := tars_in(path)):
        return None
    suffixes = find_modality(opening.modality).reader({}).suffixes
    if item := min((each for each in path.rglob("*") if each.suffix.lower() in suffixes and each.is_file()), default=None):
        raise DataError(
            f"{shown(str(path))}: holds both tars ({shown(tars[0].name)}) and pictures ({shown(item.name)})",
            do="name one of the tars, or move them elsewhere",
        )
    others = [each for each in sorted(path.rglob("*")) if each.is_file() and each not in tars]
    for each in others if opening.classes == "auto" else ():
        inside = PurePosixPath(each.relative_to(path).as_posix())
        if inside.suffix.lower() in LABEL_LIKE and not is_hidden(inside):
            with each.open("rb") as file:
                check_unread(inside, file.read(HEAD_BYTES), suffixes=suffixes, where=shown(str(path)))
    return Tars(tars, beside=tuple(others), **of)  # type: ignore[arg-type]
