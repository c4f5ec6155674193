"""What a stage makes and what it leaves for others: files under their digests, and records, both in the store.

A record names files as artifacts (name, SHA-256, size), never by a path, so it means the same on every machine. The record of a
stage (core/store_keys.py has its key) is the proof that the stage was run: its key is the digest of all that the stage depends
on (run.py), and whoever writes first is the one that counts. The folder of this machine is a cache, which may be deleted.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

from components.core import store_keys
from components.core.errors import RunError, disk_error
from components.core.files import link_or_copy, mark_used, sha256_of
from components.core.record import Record
from components.core.records import Artifact
from components.core.stores import ObjectStore
from components.delivery.final import put_final

R = TypeVar("R", bound=Record)
SCRATCH, SCRATCH_KEPT_S = ".scratch-", 86_400.0  # what a killed stage left is removed after a day


class Workspace:
    """Artifacts and records of one store, with a cache of the artifacts in a folder of this machine."""

    def __init__(self, store: ObjectStore, cache: Path) -> None:
        self.store = store
        self.cache = cache

    def put(self, path: Path) -> Artifact:
        """Store a file that will not change any more, under its digest. Raises StorageError."""
        artifact = Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
        put_final(self.store, _key(artifact), path, artifact)
        return artifact

    def open(self, artifact: Artifact) -> Path:
        """The file on this machine, to read, verified; fetched where it is not here yet. Raises RunError where its bytes are
        others, StorageError."""
        if (own := self.store.path_of(_key(artifact))) is not None:
            if not artifact.is_at(own):
                raise self._damaged(artifact)
            return own
        path = self.cache / artifact.sha256 / artifact.name
        if not artifact.is_at(path):
            self.store.fetch(_key(artifact), path)
            if not artifact.is_at(path):
                path.unlink()
                raise self._damaged(artifact)
        mark_used(path.parent)
        return path

    def link(self, artifact: Artifact, to: Path) -> None:
        """The file by another name, to read and to replace, never to write into: it is one file with the store's or the cache's
        where the disk allows. Raises RunError, StorageError."""
        link_or_copy(self.open(artifact), to)

    def _damaged(self, artifact: Artifact) -> RunError:
        what = f"{self.store.uri}/{_key(artifact)}: other bytes than its digest says"
        again = "run the stage that makes it again: genwright stage NAME --run MODEL/KEY"
        return RunError(what, do=f"remove it from the store, and {again}")

    def holds(self, *artifacts: Artifact) -> bool:
        """Whether the store has all of them."""
        return all(self._holds(each) for each in artifacts)

    def _holds(self, artifact: Artifact) -> bool:
        if (own := self.store.path_of(_key(artifact))) is not None:
            return own.stat().st_size == artifact.size_bytes
        return _key(artifact) in self.store.list(_key(artifact))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder to make files in, gone when the block ends; on the disk of the cache."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            folder = Path(mkdtemp(prefix=SCRATCH, dir=self.cache))
        except OSError as error:
            raise disk_error(error, self.cache) from error
        with suppress(OSError):  # another sweeps at the same time
            for left in self.cache.glob(f"{SCRATCH}*"):
                if time.time() - left.stat().st_mtime > SCRATCH_KEPT_S:
                    shutil.rmtree(left, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def read(self, key: str, kind: type[R]) -> R | None:
        """The record under a key; None when there is none, or an older version of genwright wrote it."""
        found = self.store.get(key)
        if found is None:
            return None
        try:
            return kind.model_validate_json(found[0])
        except ValueError:
            return None

    def write(self, key: str, record: Record, *, check: Callable[[], None] = lambda: None) -> None:
        """Put a record of how things are now under a key, in place of what is there; `check` raises where that may not be.

        Raises Conflict where another writes it at the same time, or wrote it while it was checked.
        """
        found = self.store.get(key)
        check()
        self.store.swap(key, _bytes(record), expected=found and found[1])

    def read_or_make(
        self, key: str, kind: type[R], make: Callable[[], R], *, is_valid: Callable[[R], bool] = lambda _: True
    ) -> R:
        """The record under a key while it is valid; else what `make` gives, or what another was first to put."""
        known = self.read(key, kind)
        if known is not None and is_valid(known):
            return known
        made = make()
        if self.store.put_if_absent(key, _bytes(made)):
            return made
        if known is None and (first := self.read(key, kind)) is not None:
            return first
        self.write(key, made)  # of an older version, or what it names was lost
        return made


def _key(artifact: Artifact) -> str:
    return store_keys.artifact(artifact.sha256, artifact.name)


def _bytes(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode()
