"""The state of a training that is under way, in the store, so that another machine goes on where this one was ended.

Each save of the trainer is snapshotted at once and uploaded by a thread, so no step waits for the network; what is uploaded is
the latest. `saved.json` names the files of one save and is changed last, so it names a whole one. The files are the run's
own, in the folder of its state (core/store_keys.py), and are removed when a later save has replaced them and when the training
has ended.

`saved.json` carries the token of the lease under which it is written. Who begins or goes on with a training claims it first
with a token of its own, higher than all before; from then on what was passed over can neither save, nor remove what is named,
nor make anew what was cleared.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from components.core.errors import Conflict, GenwrightError, RunError, StorageError, disk_error
from components.core.files import sha256_of
from components.core.record import Record
from components.core.stores import ObjectStore
from components.training.folder import FINISHED, SAVED, STATE, kept_files

SAVING = ".saving-"  # snapshots that wait for their upload
UPLOAD_S = 4.0  # that a training which is stopped waits for its upload: a signal leaves it seven seconds in all
ATTEMPTS = 10  # to claim it, while one that was passed over still saves


class SavedFile(Record):
    """A file of a save, by its place below the training's folder."""

    path: str
    sha256: str


class SavedTraining(Record):
    """One save; of one that was only claimed so far the step is -1, and there are no files."""

    step: int = -1
    files: tuple[SavedFile, ...] = ()
    token: int = 0  # of the lease: the higher one is the later holder's; 0 for one of before it was written down


class SavedTrainings:
    """The saves of one training in a store, under `prefix`, as the holder of a lease with this `token` sees them."""

    def __init__(self, store: ObjectStore, prefix: str, *, token: int) -> None:
        self.store = store
        self.prefix = prefix
        self.token = token

    def claim(self) -> None:
        """From now on only who holds this token, or a later one, saves. Raises RunError where a later one has claimed it."""
        for _ in range(ATTEMPTS):
            saved, tag = self._read()
            saved = saved or SavedTraining()
            if saved.token > self.token:
                raise self._passed_over()
            try:
                if saved.token < self.token:
                    self._name(saved.model_copy(update={"token": self.token}), tag)
            except Conflict:
                continue
            return
        raise Conflict(f"{self.store.uri}/{self.name}: others keep writing it", do="run the command again")

    def restore(self, folder: Path) -> None:
        """Lay the save into the training's folder, where it is ahead of what is there. Raises StorageError."""
        from components.training.state import saved_step

        saved, _ = self._read()
        if saved is None or saved.step <= saved_step(folder / STATE) or (folder / FINISHED).exists():
            return
        try:
            self._lay(saved, folder)
        except OSError as error:
            raise disk_error(error, folder) from error

    def _lay(self, saved: SavedTraining, folder: Path) -> None:
        with TemporaryDirectory(dir=folder.parent) as name:
            arriving = Path(name)
            for file in saved.files:
                path = arriving / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                self.store.fetch(self._key(file), path)
                if sha256_of(path) != file.sha256:
                    what = f"{self.store.uri}/{self._key(file)}: damaged"
                    raise StorageError(what, do=f"remove {self.store.uri}/{self.prefix} to train from the start")
            for file in sorted(saved.files, key=lambda each: each.path == STATE):  # the state last: without it nothing counts
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
                (arriving / file.path).replace(folder / file.path)

    def save(self, snapshot: Path) -> None:
        """Upload a whole save, then name it, then remove the one before.

        Raises StorageError; RunError where another holder claimed or cleared it, or it is ahead already; Conflict where one does
        so meanwhile. What is named is left as it is then.
        """
        from components.training.state import saved_step

        step = saved_step(snapshot / STATE)
        before, tag = self._read()
        if before is None or before.token != self.token:
            raise self._passed_over()
        if step < before.step:
            raise RunError(f"{self.store.uri}/{self.name}: at step {before.step} already, and this is step {step}")
        paths = sorted(path for path in snapshot.rglob("*") if path.is_file())
        files = tuple(SavedFile(path=path.relative_to(snapshot).as_posix(), sha256=sha256_of(path)) for path in paths)
        for file in files:
            self.store.put_if_absent(self._key(file), snapshot / file.path, final=True)
        self._name(SavedTraining(step=step, files=files, token=self.token), tag)
        kept = set(map(self._key, files))
        for key in map(self._key, before.files):
            if key not in kept:
                self.store.delete(key)

    def clear(self) -> None:
        """Remove all saves: the training has ended. Those of a later holder stay."""
        with suppress(GenwrightError):  # what is left costs room and nothing else
            saved, _ = self._read()
            if saved is not None and saved.token > self.token:
                return
            for key in sorted(self.store.list(f"{self.prefix}/"), key=lambda key: key != self.name):
                self.store.delete(key)  # their name first: killed in between, none is named that is gone

    @contextmanager
    def uploading(self, folder: Path) -> Iterator[Callable[[], None]]:
        """Gives what is to be called after each save in `folder`. A store that fails costs the save, not the training."""
        uploads = _Uploads(self, folder)
        try:
            yield uploads.snapshot
        finally:
            uploads.close()

    @property
    def step(self) -> int:
        """The step of the save that is named; -1 where none is."""
        saved, _ = self._read()
        return saved.step if saved else -1

    @property
    def name(self) -> str:
        """The key of the record that names a whole save."""
        return f"{self.prefix}/saved.json"

    def _key(self, file: SavedFile) -> str:
        return f"{self.prefix}/{file.sha256}/{file.path.rpartition('/')[2]}"

    def _name(self, saved: SavedTraining, tag: str | None) -> None:
        """Raises Conflict where it is no longer what it was at `tag`."""
        self.store.swap(self.name, saved.model_dump_json().encode(), expected=tag)

    def _read(self) -> tuple[SavedTraining | None, str | None]:
        """What is named, and its tag; of one that cannot be read the tag alone."""
        found = self.store.get(self.name)
        if found is None:
            return None, None
        try:
            return SavedTraining.model_validate_json(found[0]), found[1]
        except ValueError:
            return None, found[1]

    def _passed_over(self) -> RunError:
        what = f"{self.store.uri}/{self.prefix}: another production took this training over, or has ended it"
        return RunError(what, do="run the command again")


def remove_if_damaged(folder: Path) -> None:
    """Remove a finished training whose weights are not those that it ended with: with a folder store they are one file with the
    store's, so what damaged the one damaged the other. It is trained anew then."""
    from components.core.records import Checkpoint

    with suppress(RunError):
        kept = Checkpoint.read(folder / FINISHED)
        named = zip((kept.weights, *kept.adapter), kept_files(folder, kept), strict=True)
        if not all(path.is_file() and sha256_of(path) == file.sha256 for file, path in named):
            shutil.rmtree(folder, ignore_errors=True)


def remove_snapshots(folder: Path) -> None:
    """Those that a process left which was killed."""
    for left in folder.glob(f"{SAVING}*"):
        shutil.rmtree(left, ignore_errors=True)


class _Uploads:
    """A thread that uploads the latest snapshot of a folder."""

    def __init__(self, saved: SavedTrainings, folder: Path) -> None:
        self.saved, self.folder = saved, folder
        self.waiting: Path | None = None
        self.changed = threading.Condition()
        self.closing = False
        remove_snapshots(folder)
        self.thread = threading.Thread(target=self._run, name="training-state", daemon=True)
        self.thread.start()

    def snapshot(self) -> None:
        """Second names of the files as they are now: the trainer replaces its files and never writes into one. A disk that is
        full costs the upload, not the training."""
        with suppress(OSError):
            self._snapshot()

    def _snapshot(self) -> None:
        folder = Path(mkdtemp(prefix=SAVING, dir=self.folder))
        for path in (path for pattern in SAVED for path in self.folder.glob(pattern)):
            own = folder / path.relative_to(self.folder)
            own.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, own)
            except OSError:  # a disk that knows no second names
                shutil.copyfile(path, own)
        with self.changed:
            replaced, self.waiting = self.waiting, folder
            self.changed.notify()
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)

    def close(self) -> None:
        ended = (self.folder / FINISHED).exists()
        with self.changed:
            self.closing = True
            if ended:
                self.waiting = None  # nobody goes on with it
            self.changed.notify()
        self.thread.join(0 if ended else UPLOAD_S)

    def _run(self) -> None:
        with suppress(GenwrightError):
            self.saved.store.get(self.saved.name)  # connected: the upload of a training that is stopped has seconds
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting is not None or self.closing)
                folder, self.waiting = self.waiting, None
            if folder is None:
                return
            with suppress(GenwrightError):
                self.saved.save(folder)
            shutil.rmtree(folder, ignore_errors=True)
