"""Tars of pictures and WebDataset tars, read as streams: nothing is unpacked to disk.

A WebDataset sample is a run of members that share their name up to the first dot: `000017.jpg`, `000017.cls`. Without any
`.cls` the folders inside are the classes. Layout: https://github.com/webdataset/webdataset.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from components.core.errors import DataError
from components.core.progress import Advance
from components.data.images import SUFFIXES
from components.data.sources.item import MAX_FILE_BYTES, Item, Survey, Unreadable
from components.data.sources.survey import check_member, is_hidden, survey_encoded

DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)
MAX_LABEL_BYTES = 256


@dataclass(frozen=True)
class Tars:
    """One tar (plain, gz, bz2, xz) or the shards of a set, in order."""

    paths: tuple[Path, ...]
    kind: str = "image-tar"

    @property
    def where(self) -> str:
        """The path."""
        return str(self.paths[0])

    def survey(self, advance: Advance) -> Survey:
        """Reads every header. Raises DataError for an empty or damaged archive, or one with members that point outside."""
        found = survey_encoded(self.items(), where=self.where, advance=advance)
        if not found.count:
            raise DataError(f"{self.where}: no pictures in it", allowed=" ".join(sorted(SUFFIXES)))
        return found

    def items(self) -> Iterator[Item]:
        """In the order of the archives. One picture is held at a time."""
        for path in self.paths:
            try:
                yield from _samples(path)
            except DAMAGED as error:
                raise DataError(f"{path}: a damaged tar: {error}", do="pack or download it again") from error


def _samples(path: Path) -> Iterator[Item]:
    """Pictures with the label of their sample, whichever of the two comes first."""
    waiting: Item | None = None
    sample, label = "", None
    for inside, data in _members(path):
        key = str(inside.parent / inside.name.partition(".")[0])
        if key != sample:
            if waiting:
                yield waiting
            waiting, sample, label = None, key, None
        if inside.name.endswith(".cls"):
            label = data.decode("utf-8", "replace").strip()
            waiting = waiting and replace(waiting, label=label)
        elif inside.suffix.lower() in SUFFIXES:
            if waiting:
                yield waiting
            parent = "" if inside.parent == PurePosixPath() else str(inside.parent)
            waiting = Item(name=f"{path.name}/{inside}", read=_reader(data), label=label, folder=parent)
    if waiting:
        yield waiting


def _reader(data: bytes) -> Callable[[], bytes]:
    def read() -> bytes:
        if len(data) > MAX_FILE_BYTES:
            raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
        return data

    return read


def _members(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Pictures and labels of a tar, each read whole up to the limit. Raises DataError for a member that points outside."""
    with _unpacked(path) as stream, tarfile.open(fileobj=cast("IO[bytes]", watched := _Watched(stream)), mode="r|") as tar:
        for member in tar:
            inside = check_member(member.name, where=str(path))
            is_label = inside.name.endswith(".cls")
            if member.isfile() and not is_hidden(inside) and (is_label or inside.suffix.lower() in SUFFIXES):
                limit = MAX_LABEL_BYTES if is_label else MAX_FILE_BYTES + 1
                reader = tar.extractfile(member)
                data = reader.read(limit) if reader else b""
                if len(data) < min(limit, member.size):
                    raise tarfile.ReadError(f"it ends inside {member.name}")
                yield inside, data
            tar.members = []  # type: ignore[attr-defined]  # else it keeps a record of every member it has passed
        # tarfile takes a damaged header, or the end of the file between two members, for the end of the archive.
        if watched.block(tar.offset) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends without an end mark, or is damaged before it")


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
