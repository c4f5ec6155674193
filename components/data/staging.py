"""A folder that appears under its name whole or not at all; a killed run's leftovers are removed by the next one."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.core.errors import DataError, disk_error


@contextmanager
def staging(dest: Path, *, marker: str) -> Iterator[Path]:
    """Yields an empty folder beside `dest` that takes its place when the block ends without an error.

    A `dest` that exists is replaced only when it is empty or holds the file `marker`: never a folder of something else.
    Raises DataError for such a folder, StorageError or SettingsError when the disk refuses.
    """
    if dest.is_symlink() or (dest.exists() and not _replaceable(dest, marker)):
        raise DataError(f"{dest}: exists and is not a prepared dataset", do="name a new folder, or remove this one first")
    lock = None
    folder: Path | None = None
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(dest)
        folder = Path(tempfile.mkdtemp(prefix=_prefix(dest), dir=dest.parent))
        lock = _lock(folder)
        folder.chmod(0o755)
        yield folder
        _replace(folder, dest)
    except OSError as error:
        raise disk_error(error, dest) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(dest: Path) -> None:
    """Remove what killed runs left beside `dest`. What a living process is filling is locked, and stays."""
    for leftover in dest.parent.glob(f"{_prefix(dest)}*"):
        lock = _lock(leftover)
        if lock is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def _prefix(dest: Path) -> str:
    return f".{dest.name}.partial-"


def _replaceable(dest: Path, marker: str) -> bool:
    return dest.is_dir() and ((dest / marker).is_file() or not any(dest.iterdir()))


def _lock(folder: Path) -> int | None:
    """A lock that ends with the process, held on the folder itself; None when another process has it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _replace(folder: Path, dest: Path) -> None:
    """Put `folder` in the place of `dest`."""
    if dest.exists():
        # A folder that is not empty cannot be renamed over: the old one steps aside under a name the next run would clean.
        aside = Path(tempfile.mkdtemp(prefix=_prefix(dest), dir=dest.parent))
        dest.replace(aside)
        try:
            folder.replace(dest)
        except OSError:
            with suppress(OSError):
                aside.replace(dest)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    else:
        folder.replace(dest)
    descriptor = os.open(dest.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
