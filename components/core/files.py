"""Files are written whole or not at all, and named by their digests."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from components.core.errors import disk_error

CHUNK_BYTES = 1 << 20


@contextmanager
def writing(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` when the block ends, and not at all when it fails. `private`: for its owner alone.

    Raises StorageError or SettingsError when the disk refuses.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o600 if private else 0o644)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path`, whole or not at all. `private`: for its owner alone."""
    with writing(path, private=private) as file:
        file.write(data)


def link_or_copy(path: Path, to: Path) -> None:
    """Give a file another name, whole or not at all, in place of what has it; a copy where the disk knows no second names or is
    another one.

    Both are one file then, so neither is ever to be written into: whoever changes one writes another and moves it there, as
    `writing` does. Raises StorageError or SettingsError when the disk refuses.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as spare, suppress(OSError):
            os.link(path, linked := Path(spare, to.name))
            linked.replace(to)
            return
    except OSError as error:
        raise disk_error(error, to) from error
    with path.open("rb") as source, writing(to) as target:
        shutil.copyfileobj(source, target, CHUNK_BYTES)


def mark_used(path: Path) -> None:
    """Let a file or folder of a cache count as used now, so that it is not freed (`genwright gc`)."""
    with suppress(OSError):  # it may be another's to read alone
        os.utime(path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
