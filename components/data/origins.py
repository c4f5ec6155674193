"""Where the bytes of a version come from, and whether the folder in the work tree may stand beside it.

In turn: DVC's cache or remote, the folder itself where it is that version, the stage of dvc.yaml that makes it.
"""

import shutil
from pathlib import Path

from components.core.errors import DataError, disk_error
from components.data.lockfiles import recorded, was_recorded
from components.data.revisions import OR_WORKSPACE, WORKSPACE, Named
from components.data.store import VersionStore


def check_unchanged(named: Named, store: VersionStore) -> None:
    """Raises DataError for a folder in the work tree that is no recorded version: what was done to it must not be passed over."""
    from components.data import repository
    from components.data.shards import verify

    known = named.known
    folder, root = known.tracked, named.root
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if empty or _md5_here(folder, store) == known.md5:
        return
    actual = repository.hash_of(root, folder)  # knows .dvcignore
    if actual == known.md5 or (actual and (repository.is_cached(root, actual) or was_recorded(root, known.file, actual))):
        return  # an older version: nothing of it is lost
    again = f"`dvc commit {known.stage}`" if known.stage else f"`dvc add {folder.relative_to(root)}`"
    do = f"{again} to make it a version, `dvc checkout --force {folder.relative_to(root)}` to undo it, {OR_WORKSPACE}"
    what = f"{folder}: changed since the version that {known.file} records ({known.md5[:8]})"
    try:
        verify(named.folder)
    except DataError as error:
        raise DataError(f"{what}: {str(error).partition('; ')[0]}", do=do) from error
    raise DataError(what, do=do)


def _md5_here(folder: Path, store: VersionStore) -> str | None:
    """The MD5 of a folder in a work tree; None where it cannot be read."""
    try:
        return store.md5_of(folder, note=store.note_of(folder))
    except OSError:
        return None


def bring(named: Named, to: Path, *, store: VersionStore, mirror: str | None) -> str:
    """Write a version as the new folder `to` from the first place that holds it; returns the commit."""
    from components.data import repository

    known = named.known
    try:
        rev = None if named.rev == WORKSPACE else named.rev
        repository.gather(named.root, known, to=to, rev=rev)
    except repository.NotHeld:
        if not _is_here(named, store) and not _reproduced(named, store=store, mirror=mirror):
            raise
        shutil.rmtree(to, ignore_errors=True)  # of which some may have come
        shutil.copytree(named.folder, to)
    return named.rev


def _is_here(named: Named, store: VersionStore) -> bool:
    return named.known.tracked.is_dir() and _md5_here(named.known.tracked, store) == named.known.md5


def _reproduced(named: Named, *, store: VersionStore, mirror: str | None) -> bool:
    """Let the stage make the data, where the work tree records this version of it. Raises RunError, DataError for another one."""
    from filelock import FileLock

    from components.data import repository

    root, known = named.root, named.known
    now = recorded(root, named.folder)
    if known.stage is None or now is None or (now.md5, now.stage) != (known.md5, known.stage):
        return False
    lock = root / known.file
    try:
        (root / ".dvc" / "tmp").mkdir(exist_ok=True)
        with FileLock(root / ".dvc" / "tmp" / "genwright.lock"):  # of two homes on one repository
            if _is_here(named, store):
                return True
            before = lock.read_bytes()
            repository.reproduce(lock.parent, known.stage, cache=store.folder.parent, mirror=_absolute(mirror))
            made = recorded(root, named.folder)
            if made is None or made.md5 != known.md5:
                lock.write_bytes(before)
                raise DataError(
                    f"{named.folder}: the stage {known.stage} makes {made and made.md5}, and {known.file} records {known.md5}",
                    do=f"`dvc push` that version where it was made, or commit this one with `dvc commit {known.stage}`",
                )
    except OSError as error:
        raise disk_error(error, root) from error
    return True


def _absolute(mirror: str | None) -> str | None:
    """A stage runs in another folder: what is relative here must not be so there."""
    return mirror if mirror is None or "://" in mirror else str(Path(mirror).absolute())
