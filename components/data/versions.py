"""Datasets at a version: fetch one, describe one without effort, put one under version control.

A version is a folder of a repository at a commit, and there the MD5 that DVC records of it. It is read from the store under the
home (store.py), into which it comes from DVC's cache or remote, from the folder where that is this version, or by the stage that
makes it. The folder in the work tree is never changed, and never taken for a version that it is not.
"""

from pathlib import Path

from components.core.brief import DataBrief
from components.core.errors import DataError
from components.core.files import mark_used
from components.core.records import Dataset, LocalDataset
from components.data.dvc_cache import cached_manifest
from components.data.lockfiles import commit_at, fetched, find_root, folder_md5, git, recorded
from components.data.manifest import MANIFEST, Manifest, read_manifest
from components.data.origins import bring, check_unchanged
from components.data.revisions import HEAD, WORKSPACE, address_of, locate, resolve
from components.data.store import VersionStore


def fetch(data: DataBrief, *, cache: Path, mirror: str | None = None, base: Path | None = None) -> LocalDataset:
    """Make a dataset readable on this machine and say which version it is.

    `base`: the folder that `data.repo` is relative to (the current one); of a brief it is core.brief.base_of. `mirror` is passed
    on to the stage that makes the data, where neither DVC's cache nor its remote holds it.
    Raises DataError (no such data, changed, corrupt), RunError (the stage failed), Conflict, StorageError.
    """
    store, place = VersionStore(cache), (base or Path.cwd()).absolute()
    address = address_of(data.repo, place)
    if address is not None:
        check_named(data, base=place)
        return _from_address(data, address, store)
    if data.rev == WORKSPACE:
        return _from_work_tree(data, locate(data, place), store)
    named = resolve(data, place)
    known = named.known
    if data.rev == HEAD:
        check_unchanged(named, store)
    md5 = store.named(known.md5, known.part) if known.part else known.md5
    if md5 is None or not store.holds(md5):
        what = f"{data.path} of {named.root} at {data.rev}"
        _, md5 = store.put(lambda to: bring(named, to, store=store, mirror=mirror), what=what, md5=md5)
        if known.part:
            store.name(md5, known.md5, known.part)
    return _dataset(data, store.path(md5), read_manifest(store.path(md5)), rev=named.rev, md5=md5)


def describe(data: DataBrief, *, cache: Path, base: Path | None = None) -> LocalDataset | None:
    """What is known of a dataset at once: reads only what lies here, and imports no dvc. None when that is not enough.

    Where the version is neither fetched nor in DVC's cache, the folder in the work tree stands for it: `fetch` finds out whether
    it is the same.
    """
    place, store = (base or Path.cwd()).absolute(), VersionStore(cache)
    if address_of(data.repo, place) is not None:
        return None
    try:
        if data.rev == WORKSPACE:
            folder = locate(data, place)
            return _dataset(data, folder, read_manifest(folder), rev=WORKSPACE, md5="")
        named = resolve(data, place)
        known = named.known
        md5 = store.named(known.md5, known.part) if known.part else known.md5
        at = store.path(md5 or known.md5)
        found = read_manifest(at) if (at / MANIFEST).is_file() else cached_manifest(named.root, known)
        if found is None and data.rev != HEAD:
            return None
        manifest = found or read_manifest(named.folder)
    except DataError:
        return None
    return _dataset(data, at, manifest, rev=named.rev, md5=md5 or "")


def recorded_md5(data: DataBrief, *, base: Path | None = None) -> str:
    """What the repository records of the data now, asked in seconds: nothing of it is fetched. Raises DataError.

    Of a part of a tracked folder, the MD5 of that folder and the part.
    """
    place = (base or Path.cwd()).absolute()
    address = address_of(data.repo, place)
    if address is None and data.rev == WORKSPACE:
        return folder_md5(locate(data, place))
    if address is None:
        known = resolve(data, place).known
    else:
        check_named(data, base=place)
        with fetched(address, data.rev) as root:
            found = recorded(root, root / data.path, rev="FETCH_HEAD") if root else None
        if found is None:
            what = f"{data.repo}: cannot be reached, or DVC tracks no {data.path} at {data.rev}"
            raise DataError(what, do="check data.repo, data.path and data.rev in the brief")
        known = found
    return f"{known.md5}/{known.part}" if known.part else known.md5


def find(dataset: Dataset, *, cache: Path) -> LocalDataset | None:
    """A version that was fetched here before, or the work tree that still is this version; None where neither is here."""
    store = VersionStore(cache)
    if store.holds(dataset.md5):
        folder: Path | None = store.path(dataset.md5)
        mark_used(store.path(dataset.md5))
    else:
        folder = store.workspace(dataset.md5)
    return None if folder is None else LocalDataset(path=str(folder), **dataset.model_dump(exclude={"path"}))


def check_named(data: DataBrief, *, base: Path | None = None) -> None:
    """Raises DataError at once when a brief names no version of any data, so that `fetch` could only fail."""
    place = (base or Path.cwd()).absolute()
    if address_of(data.repo, place) is not None:
        if data.rev == WORKSPACE:
            raise DataError(f"{data.repo}: an address has no work tree", do="name a commit, tag or branch in data.rev")
    elif data.rev == WORKSPACE:
        read_manifest(locate(data, place))
    else:
        resolve(data, place)


def track(path: Path) -> None:
    """Put a prepared folder under DVC, and set DVC up with a local remote where there is none, without git if need be.

    Raises DataError for a folder that is not prepared or that git ignores, StorageError or SettingsError when the disk refuses.
    """
    from components.data import repository

    folder = path.absolute()
    read_manifest(folder)
    top = git(folder.parent, "rev-parse", "--show-toplevel")
    repository.track(folder, root=find_root(folder.parent), git_root=Path(top.strip()) if top else None)


def check_trackable(path: Path) -> None:
    """Raises DataError when git ignores the file in which DVC would record the folder `path`: before it is prepared in vain."""
    pointer = path.absolute().with_name(f"{path.name}.dvc")
    above = next((each for each in pointer.parents if each.is_dir()), None)
    root = find_root(path.absolute().parent)
    if above is None or (root is not None and recorded(root, path.absolute()) is not None):
        return
    rule = git(above, "check-ignore", "--verbose", "--no-index", "--", str(pointer))
    if rule:
        where = rule.partition("\t")[0]
        raise DataError(
            f"{path}: git ignores {pointer.name}, in which DVC records the version ({where})",
            do=f"add !{pointer.name} below that rule, or name a folder that git does not ignore",
        )


def _from_work_tree(data: DataBrief, folder: Path, store: VersionStore) -> LocalDataset:
    """The folder as it lies, read to its last byte: what differs from its own dataset.json is damage."""
    from components.data.shards import verify

    manifest = verify(folder)  # says how to prepare one, where there is none
    md5 = folder_md5(folder)
    store.note_workspace(md5, folder)
    return _dataset(data, folder, manifest, rev=WORKSPACE, md5=md5)


def _from_address(data: DataBrief, address: str, store: VersionStore) -> LocalDataset:
    from components.data import repository

    commit = commit_at(address, data.rev)
    md5 = store.named(address, commit, data.path) if commit else None
    if commit is None or md5 is None:
        commit, md5 = store.put(
            lambda to: repository.export(address, rev=data.rev, path=data.path, to=to),
            what=f"{data.path} of {data.repo} at {data.rev}",
        )
        store.name(md5, address, commit, data.path)
    return _dataset(data, store.path(md5), read_manifest(store.path(md5)), rev=commit, md5=md5)


def _dataset(data: DataBrief, folder: Path, manifest: Manifest, *, rev: str, md5: str) -> LocalDataset:
    return LocalDataset(
        name=Path(data.path).name,
        path=str(folder),
        repo=data.repo,
        rev=rev,
        md5=md5,
        item=manifest.item,
        count=manifest.count,
        classes=manifest.classes,
        splits=manifest.splits,
        mean=manifest.mean,
        std=manifest.std,
        captions=manifest.captions,
        quarantined=manifest.quarantine.count,
        duplicates=manifest.report.duplicates if manifest.report else 0.0,
        class_counts=manifest.report.class_counts if manifest.report and manifest.classes else {},
    )
