"""What a stage makes and what it leaves for others: files under their digests, and records, both in the store.

A record names files as artifacts (name, SHA-256, size), never by a path, so it means the same on every machine. The record of a
stage lies under `runs/MODEL/KEY/STAGE.json` and is the proof that the stage was run: KEY is the digest of all that the stage
depends on (run.py), and whoever writes first is the one that counts. The folder of this machine is a cache, which may be deleted.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

from components.core.errors import RunError, disk_error
from components.core.files import sha256_of, writing
from components.core.protocols import ObjectStore
from components.core.record import Record
from components.core.records import Artifact

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
        if not self.store.put_if_absent(_key(artifact), path, final=True):
            self._mend(artifact, path)
        return artifact

    def _mend(self, artifact: Artifact, path: Path) -> None:
        """Replace what a folder store holds under the digest where that is damaged; S3 looks after its objects itself."""
        own = self.store.path_of(_key(artifact))
        if own is not None and not own.samefile(path) and not self.is_copy(own, artifact):
            self.store.delete(_key(artifact))
            self.store.put_if_absent(_key(artifact), path, final=True)

    def open(self, artifact: Artifact) -> Path:
        """The file on this machine, to read, verified; fetched where it is not here yet. Raises RunError where its bytes are
        others, StorageError."""
        if (own := self.store.path_of(_key(artifact))) is not None:
            if not self.is_copy(own, artifact):
                raise self._damaged(artifact)
            return own
        path = self.cache / artifact.sha256 / artifact.name
        if not self.is_copy(path, artifact):
            self.store.fetch(_key(artifact), path)
            if not self.is_copy(path, artifact):
                path.unlink()
                raise self._damaged(artifact)
        return path

    def copy(self, artifact: Artifact, to: Path) -> None:
        """A file of one's own, whole or not at all. Raises RunError, StorageError."""
        with self.open(artifact).open("rb") as source, writing(to) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def _damaged(self, artifact: Artifact) -> RunError:
        what = f"{self.store.uri}/{_key(artifact)}: other bytes than its digest says"
        again = "run the stage that makes it again: genwright stage NAME --run MODEL/KEY"
        return RunError(what, do=f"remove it from the store, and {again}")

    def is_copy(self, path: Path, artifact: Artifact) -> bool:
        """Whether the file at `path` is the artifact."""
        return path.is_file() and path.stat().st_size == artifact.size_bytes and sha256_of(path) == artifact.sha256

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

    def write(self, key: str, record: Record) -> None:
        """Put a record under a key, in place of what is there. Raises Conflict where another writes it at the same time."""
        found = self.store.get(key)
        self.store.swap(key, _bytes(record), expected=found and found[1])

    def read_or_make(
        self, key: str, kind: type[R], make: Callable[[], R], *, artifacts: Callable[[R], tuple[Artifact, ...]] = lambda _: ()
    ) -> R:
        """The record under a key while its artifacts are there; else what `make` gives, or what another was first to put."""
        known = self.read(key, kind)
        if known is not None and self.holds(*artifacts(known)):
            return known
        made = make()
        if self.store.put_if_absent(key, _bytes(made)):
            return made
        if known is None and (first := self.read(key, kind)) is not None:
            return first
        self.write(key, made)  # of an older version, or its artifacts were lost
        return made


def _key(artifact: Artifact) -> str:
    return f"artifacts/{artifact.sha256}/{artifact.name}"


def _bytes(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode()
