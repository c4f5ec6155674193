"""The content-addressed cache of prepared datasets under the home: `datasets/MD5`, each whole and as it was stored.

Beside each stands `MD5.json`, the size and the time of every file: while those hold, its bytes need not be read again.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from components.core.errors import DataError, disk_error
from components.core.files import write_whole
from components.data.lockfiles import folder_md5
from components.data.manifest import MANIFEST
from components.data.staging import staging

Bring = Callable[[Path], str]  # writes a version as a new folder and returns the commit that names it


class VersionStore:
    """Versions of datasets below `cache`, by the MD5 that DVC gives a folder."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache.absolute() / "datasets"

    def path(self, md5: str) -> Path:
        return self.folder / md5

    def holds(self, md5: str) -> bool:
        """Whether a version is here and undamaged."""
        return (self.path(md5) / MANIFEST).is_file() and self.md5_of(self.path(md5), note=self.folder / f"{md5}.json") == md5

    def named(self, *name: str) -> str | None:
        """The MD5 of a version that is known by another name, such as repository, commit and path; None where it is not here."""
        md5 = _read_note(self._name(name)).get("md5")
        return str(md5) if md5 and self.holds(str(md5)) else None

    def name(self, md5: str, *name: str) -> None:
        """Know a version by another name too."""
        self._name(name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._name(name), json.dumps({"name": name, "md5": md5}).encode())

    def note_workspace(self, md5: str, folder: Path) -> None:
        """Remember a folder of a work tree that is this version now."""
        self._workspace(md5).parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._workspace(md5), json.dumps({"md5": md5, "folder": str(folder)}).encode())

    def workspace(self, md5: str) -> Path | None:
        """The folder of a work tree that was this version and still is; else None."""
        known = _read_note(self._workspace(md5)).get("folder")
        folder = Path(str(known)) if known else None
        if folder is None or not (folder / MANIFEST).is_file() or self.md5_of(folder, note=self.note_of(folder)) != md5:
            return None
        return folder

    def _workspace(self, md5: str) -> Path:
        return self.folder / "workspaces" / f"{md5}.json"

    def note_of(self, folder: Path) -> Path:
        """Where the MD5 of a folder elsewhere is noted, with which it need not be read again."""
        return self._name((str(folder),))

    def _name(self, name: tuple[str, ...]) -> Path:
        digest = hashlib.sha256("\n".join(name).encode(errors="surrogateescape")).hexdigest()
        return self.folder / "names" / f"{digest[:32]}.json"

    def md5_of(self, folder: Path, *, note: Path) -> str:
        """The MD5 of a folder; its files are read again only when `note` does not know them as they are."""
        files = _stats(folder)
        known = _read_note(note)
        if known.get("files") != files:
            known = {"files": files, "md5": folder_md5(folder)}
            note.parent.mkdir(parents=True, exist_ok=True)
            write_whole(note, json.dumps(known).encode())
        return str(known["md5"])

    def put(self, bring: Bring, *, what: str, md5: str | None = None) -> tuple[str, str]:
        """Store what `bring` writes, whole or not at all; returns the commit and the MD5.

        A version that is here is kept, a damaged one is replaced. `what` names it in errors; `md5` is what it must be.
        Raises DataError for what is no prepared dataset or not that version, StorageError or SettingsError (disk).
        """
        from filelock import FileLock

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                if md5 is not None and self.holds(md5):  # another process was first
                    return "", md5
                with staging(self.folder / "incoming", marker=f"data/{MANIFEST}") as folder:
                    commit = bring(folder / "data")
                    actual = _checked(folder / "data", what=what, md5=md5)
                self._take(self.folder / "incoming" / "data", actual)
        except OSError as error:
            raise disk_error(error, self.folder) from error
        return commit, actual

    def _take(self, incoming: Path, md5: str) -> None:
        if self.holds(md5):
            return
        shutil.rmtree(self.path(md5), ignore_errors=True)
        incoming.replace(self.path(md5))
        self.holds(md5)  # notes it


def _stats(folder: Path) -> dict[str, list[int]]:
    files = ((path.relative_to(folder).as_posix(), path.stat()) for path in folder.rglob("*") if path.is_file())
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in sorted(files)}


def _read_note(note: Path) -> dict[str, object]:
    try:
        known = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "md5" in known else {}


def _checked(folder: Path, *, what: str, md5: str | None) -> str:
    """The MD5 of what was brought. Raises DataError when it is no prepared dataset, or not the one that is recorded."""
    from components.data.shards import verify

    if not (folder / MANIFEST).is_file():
        raise DataError(f"{what}: not a prepared dataset, it has no {MANIFEST}", do="name a folder that genwright prepared")
    verify(folder)
    actual = folder_md5(folder)
    if md5 not in (None, actual):
        raise DataError(f"{what}: its files have the MD5 {actual}, not {md5}", do="`dvc push` it again where it was made")
    return actual
