"""An object store in a local folder, safe between processes and against being killed at any instant.

An object is written to `.partial/`, then moved to its key by one rename under a lock. The lock is flock(2): the kernel frees it
when its holder dies, so none is ever stale. Names beginning with '.' are not keys, so neither shows up as an object.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from components.core.errors import Conflict, StorageError, disk_error
from components.core.files import writing
from components.core.stores import StoredObject
from components.delivery.keys import checked_key, checked_prefix

LOCK_TIMEOUT_S = 60.0
PARTIAL_KEPT_S = 86_400.0  # what a killed writer left is removed after a day


class LocalStore:
    """Implements core.protocols.ObjectStore. The tag of an object is the SHA-256 of its bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = self.root.as_uri()

    def put_if_absent(self, key: str, data: bytes | Path, *, final: bool = False) -> bool:
        """Store whole or not at all; False, and nothing changed, when the key is taken. Raises StorageError.

        A `final` file on the same disk is linked, not copied.
        """
        path = self._path(key)
        with self._translated(key):
            if path.is_file() and self._kept(path, final=final):
                return False
            with self._partial(data, final=final) as partial, self._locked():
                if path.is_file():
                    return False
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(path)
        return True

    def path_of(self, key: str) -> Path | None:
        """The file itself, or None."""
        path = self._path(key)
        return path if path.is_file() else None

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The bytes and their tag, or None."""
        with self._translated(key):
            try:
                data = self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        return data, sha256(data).hexdigest()

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Compare-and-swap. Raises Conflict when the current tag is not `expected` (None: absent)."""
        path = self._path(key)
        with self._translated(key), self._partial(data) as partial, self._locked():
            current = self.get(key)
            if (current and current[1]) != expected:
                raise Conflict(f"{self.uri}/{key}: another writer was first", do="read it again and decide anew")
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
        return sha256(data).hexdigest()

    def fetch(self, key: str, to: Path) -> None:
        """Copy an object to a file, whole or not at all. Raises StorageError when there is none."""
        path = self._path(key)
        if not path.is_file():
            raise StorageError(f"{self.uri}/{key}: no such object")
        with self._translated(key), path.open("rb") as source, writing(to) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def list(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        folder = self.root / checked_prefix(prefix).rpartition("/")[0]
        keys = []
        with self._translated(prefix):
            for parent, folders, names in os.walk(folder):
                folders[:] = [name for name in folders if not name.startswith(".")]
                at = Path(parent).relative_to(self.root)
                keys += [(at / name).as_posix() for name in names if not name.startswith(".")]
        return sorted(key for key in keys if key.startswith(prefix))

    def objects(self, prefix: str) -> Sequence[StoredObject]:
        """Keys that begin with `prefix`, sorted, with what the disk knows of them."""
        found = []
        for key in self.list(prefix):
            with suppress(FileNotFoundError):  # removed meanwhile
                stat = self._path(key).stat()
                file = (stat.st_dev, stat.st_ino)
                found.append(StoredObject(key, stat.st_size, stat.st_mtime, file=file, names=stat.st_nlink))
        return found

    def touch(self, key: str) -> None:
        """Let an object count as put now. Raises StorageError."""
        with self._translated(key):
            self._kept(self._path(key), final=True)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none. Raises StorageError."""
        with self._translated(key):
            self._path(key).unlink(missing_ok=True)

    def delete_if_older(self, key: str, before_s: float) -> bool:
        """Remove it unless it was put since. Who puts it again has the same lock. Raises StorageError."""
        path = self._path(key)
        with self._translated(key), self._locked():
            if not path.is_file() or path.stat().st_mtime >= before_s:
                return False
            path.unlink()
            with suppress(OSError):  # other files are there
                path.parent.rmdir()
        return True

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _kept(self, path: Path, *, final: bool) -> bool:
        """Whether the file is there still; a `final` one counts as put now."""
        if not final:
            return True
        with self._locked(), suppress(FileNotFoundError):
            os.utime(path)
            return True
        return False

    @contextmanager
    def _partial(self, data: bytes | Path, *, final: bool = False) -> Iterator[Path]:
        """A complete copy of `data` on this file system, or the file itself, gone when the block ends unless it was moved."""
        folder = self.root / ".partial"
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        handle, name = tempfile.mkstemp(dir=folder)
        if final and isinstance(data, Path) and _linked(data, Path(name)):
            os.close(handle)
            try:
                yield Path(name)
            finally:
                Path(name).unlink(missing_ok=True)
            return
        try:
            with os.fdopen(handle, "wb") as target:
                if isinstance(data, bytes):
                    target.write(data)
                else:
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            Path(name).chmod(0o644)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(self.root / ".lock", timeout=LOCK_TIMEOUT_S, poll_interval=0.005):
                yield
        except Timeout as error:
            raise StorageError(
                f"{self.uri}: another process has held its lock for {LOCK_TIMEOUT_S:.0f} s", do="end that process and try again"
            ) from error

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_error(error, error.filename or self.root / key) from error


def _linked(source: Path, to: Path) -> bool:
    """Whether `to` is now a second name of `source`, whose bytes are on the disk; False across disks."""
    spare = to.with_name(f"{to.name}-link")
    try:
        os.link(source, spare)
    except OSError:
        return False
    os.utime(spare)  # not swept for the age of its source
    spare.chmod(0o644)
    with spare.open("rb") as file:
        os.fsync(file.fileno())
    spare.replace(to)
    return True


def _sweep(folder: Path) -> None:
    """Remove what writers killed long ago left behind."""
    with suppress(OSError):
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > PARTIAL_KEPT_S:
                path.unlink(missing_ok=True)
