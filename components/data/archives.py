"""Public sets: which files they consist of, the published digests of their raw contents, and how they get into the cache.

The digests are of the raw files, not of the packed ones: mirrors pack the same bytes differently. A mirror's own SHA256SUMS,
where it has one, is checked on top.
"""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from components.core.errors import DataError, disk_error
from components.core.files import CHUNK_BYTES, sha256_of, writing
from components.data.download import PAUSE_S, NotThere, obtain
from components.data.lockfiles import file_md5

SUMS = "SHA256SUMS"
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError)


@dataclass(frozen=True)
class RawFile:
    """One file as its authors made it."""

    name: str
    md5: str
    size_bytes: int


@dataclass(frozen=True)
class Archive:
    """One file of a mirror: a gzip of one raw file, a tar.gz of several, or the raw file itself."""

    path: str  # below a mirror folder or URL
    urls: tuple[str, ...]  # public mirrors, in order
    files: tuple[RawFile, ...]


def raw_files(
    name: str,
    archives: tuple[Archive, ...],
    *,
    cache: Path,
    mirror: str | None = None,
    progress: bool = False,
    pause_s: float = PAUSE_S,
) -> dict[str, Path]:
    """The raw files of set `name` below `cache`, verified; what is missing is brought from `mirror` or the public mirrors.

    `mirror` is a folder or a URL. Raises DataError (wrong bytes, not there), RunError (no answer), StorageError (disk).
    """
    from filelock import FileLock

    folder = cache / "raw" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for archive in archives:
                if not all(_intact(folder / raw.name, raw) for raw in archive.files):
                    _bring(archive, folder, mirror=mirror, progress=progress, pause_s=pause_s)
    except OSError as error:
        raise disk_error(error, folder) from error
    return {raw.name: folder / raw.name for archive in archives for raw in archive.files}


def _intact(path: Path, raw: RawFile) -> bool:
    return path.is_file() and path.stat().st_size == raw.size_bytes and file_md5(path) == raw.md5


def _bring(archive: Archive, folder: Path, *, mirror: str | None, progress: bool, pause_s: float) -> None:
    part = folder / Path(archive.path).name
    if mirror is None:
        if not archive.urls:
            raise DataError(
                f"{archive.path}: no public mirror holds it in this form",
                do="set GENWRIGHT_DATA_MIRROR to a folder or URL that does",
            )
        obtain(archive.urls, part, partial(_unpack, archive, folder), progress=progress, pause_s=pause_s)
    elif "://" in mirror:
        sums = _sums_at(mirror, folder, pause_s=pause_s)
        url = f"{mirror.rstrip('/')}/{archive.path}"
        obtain([url], part, partial(_accept, archive, folder, sums, url), progress=progress, pause_s=pause_s)
    else:
        file = Path(mirror) / archive.path
        if not file.is_file():
            raise DataError(f"{file}: no such file", do="GENWRIGHT_DATA_MIRROR must be laid out like the public mirrors")
        listing = Path(mirror) / SUMS
        sums = listing.read_text(encoding="utf-8") if listing.is_file() else ""
        _accept(archive, folder, sums, str(file), file)


def _sums_at(mirror: str, folder: Path, *, pause_s: float) -> str:
    found: list[str] = []
    try:
        obtain(
            [f"{mirror.rstrip('/')}/{SUMS}"],
            folder / SUMS,
            lambda part: found.append(part.read_text(encoding="utf-8")),
            progress=False,
            pause_s=pause_s,
        )
    except NotThere:
        return ""
    return found[0]


def _accept(archive: Archive, folder: Path, sums: str, where: str, packed: Path) -> None:
    """Check a mirror's file against the mirror's own list, then unpack it."""
    listed = {path.strip().lstrip("*./"): digest for digest, _, path in (line.partition(" ") for line in sums.splitlines())}
    wanted = listed.get(archive.path)
    if wanted is not None and sha256_of(packed) != wanted.lower():
        raise DataError(f"{where}: its SHA-256 is not the one in {SUMS}", do="fetch it again or repair the mirror")
    _unpack(archive, folder, packed)


def _unpack(archive: Archive, folder: Path, packed: Path) -> None:
    """Put the raw files into the cache, each whole and with its published digest, or raise DataError."""
    missing = {raw.name: raw for raw in archive.files}
    try:
        for name, stream in _contents(archive, packed):
            if raw := missing.pop(name, None):
                _keep(raw, stream, folder / raw.name, where=archive.path)
    except BROKEN as error:
        raise DataError(f"{archive.path}: a damaged archive: {error}", do="fetch it again or name another mirror") from error
    if missing:
        raise DataError(f"{archive.path}: lacks {', '.join(missing)}", do="name another mirror")


def _contents(archive: Archive, packed: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.path.endswith(".tar.gz"):
        with tarfile.open(packed, "r|gz") as tar:
            for member in tar:
                if member.isfile() and (inner := tar.extractfile(member)):
                    yield Path(member.name).name, inner
        return
    with packed.open("rb") as file:
        stream = gzip.GzipFile(fileobj=file) if archive.path.endswith(".gz") else file
        yield archive.files[0].name, cast("IO[bytes]", stream)


def _keep(raw: RawFile, stream: IO[bytes], to: Path, *, where: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    left = raw.size_bytes
    with writing(to) as file:
        # One byte more than it may have is enough to know: a bomb is never unpacked.
        while chunk := _reading(stream, min(CHUNK_BYTES, left + 1), where):
            digest.update(chunk)
            left -= len(chunk)
            if left < 0:
                break
            file.write(chunk)
        if left or digest.hexdigest() != raw.md5:
            raise DataError(
                f"{where}: {raw.name} has not the published MD5 {raw.md5}", do="fetch it again or name another mirror"
            )


def _reading(stream: IO[bytes], count: int, where: str) -> bytes:
    try:
        return stream.read(count)
    except BROKEN as error:
        raise DataError(f"{where}: a damaged archive: {error}", do="fetch it again or name another mirror") from error
