"""Datasets at a version: fetch one, describe one without effort, put one under version control.

A version is the MD5 of the folder as DVC records it. At HEAD of the repository one works in, the work tree is what counts:
what lies there is used, and when it differs from what is committed its revision is `workspace`.
"""

from collections.abc import Callable
from pathlib import Path

from components.core.brief import DataBrief
from components.core.errors import DataError, disk_error
from components.core.records import Dataset
from components.data.lockfiles import commit_of, find_root, folder_md5, git, recorded
from components.data.manifest import MANIFEST, Manifest, read_manifest
from components.data.staging import staging

WORKSPACE = "workspace"


def fetch(data: DataBrief, *, cache: Path, mirror: str | None = None, base: Path | None = None) -> Dataset:
    """Make a dataset readable on this machine and say which version it is.

    `base`: the folder that `data.repo` is relative to (the current one). What is missing comes from DVC's cache or remote,
    else the stage that makes it is run; another repository or revision is read into `cache`. `mirror` is passed on to the stage.
    Raises DataError (no such data, corrupt), RunError (the stage failed), Conflict, StorageError.
    """
    cache = cache.absolute()
    place = (base or Path.cwd()).absolute()
    if _is_url(data.repo):

        def export(to: Path) -> str:
            from components.data import repository

            return repository.export(data.repo, rev=data.rev, path=data.path, to=to)

        return _stored(data, export, cache=cache)
    folder, root = _located(data, place)
    if _is_work_tree(data, folder, root, place):
        return _from_work_tree(data, folder, root, cache=cache, mirror=_absolute(mirror))
    assert root is not None
    sha = commit_of(root, data.rev)
    if sha is None:
        raise DataError(f"{root}: no revision {data.rev!r}", do="name a commit, tag or branch of that repository")
    known = recorded(root, folder, rev=sha)
    if known is None:
        raise DataError(f"{folder}: not tracked by DVC at {data.rev}", do="check data.path and data.rev in the brief")

    def gather(to: Path) -> str:
        from components.data import repository

        repository.gather(root, known.md5, to=to)
        return sha

    return _stored(data, gather, cache=cache, rev=sha, md5=known.md5)


def describe(data: DataBrief, *, cache: Path, base: Path | None = None) -> Dataset | None:
    """What is known of a dataset at once: reads only what lies here, and imports no dvc. None when that is not enough.

    The MD5 is the recorded one: whether the folder was changed since, only `fetch` finds out.
    """
    if _is_url(data.repo):
        return None
    place = (base or Path.cwd()).absolute()
    try:
        folder, root = _located(data, place)
        if _is_work_tree(data, folder, root, place):
            known, at = (recorded(root, folder) if root else None), folder
            rev = _rev_of(root, folder, known.md5) if root and known else WORKSPACE
        else:
            sha = commit_of(root, data.rev) if root else None
            known = recorded(root, folder, rev=sha) if root and sha else None
            rev, at = sha or "", cache.absolute() / "datasets" / (known.md5 if known else "none")
        manifest = read_manifest(at)
    except DataError:
        return None
    return _dataset(data, at, manifest, rev=rev, md5=known.md5 if known else "")


def check_named(data: DataBrief, *, base: Path | None = None) -> None:
    """Raises DataError at once when a dataset lies neither here nor in any record of DVC, so that `fetch` could only fail."""
    if _is_url(data.repo):
        return
    place = (base or Path.cwd()).absolute()
    folder, root = _located(data, place)
    if _is_work_tree(data, folder, root, place) and not folder.exists() and (root is None or recorded(root, folder) is None):
        read_manifest(folder)  # says how to prepare one


def track(path: Path) -> None:
    """Put a prepared folder under DVC, and set DVC up with a local remote where there is none, without git if need be.

    Raises DataError for a folder that is not prepared or that git ignores, StorageError or SettingsError when the disk refuses.
    """
    from components.data import repository

    folder = path.absolute()
    read_manifest(folder)
    top = git(folder.parent, "rev-parse", "--show-toplevel")
    repository.track(folder, root=find_root(folder.parent), git_root=Path(top.strip()) if top else None)


def _from_work_tree(data: DataBrief, folder: Path, root: Path | None, *, cache: Path, mirror: str | None) -> Dataset:
    from filelock import FileLock

    from components.data import repository
    from components.data.shards import check_sizes, verify

    if root is None or recorded(root, folder) is None:
        manifest = verify(folder)  # says how to prepare one, where there is none
        return _dataset(data, folder, manifest, rev=WORKSPACE, md5=folder_md5(folder))
    try:
        (root / ".dvc" / "tmp").mkdir(exist_ok=True)
        # Two runs on one machine must not both start the stage that makes the folder.
        with FileLock(root / ".dvc" / "tmp" / "genwright.lock"):
            if not folder.exists():
                _bring_back(root, folder, cache=cache, mirror=mirror)
    except OSError as error:
        raise disk_error(error, root) from error
    manifest = check_sizes(folder)
    actual = repository.hash_of(root, folder)
    assert actual is not None
    rev = _rev_of(root, folder, actual)
    if rev == WORKSPACE:
        verify(folder)  # a new version is consistent in itself; a damaged one is not
    return _dataset(data, folder, manifest, rev=rev, md5=actual)


def _rev_of(root: Path, folder: Path, md5: str) -> str:
    """The commit at HEAD when that is what it records of the folder, else `workspace`."""
    sha = commit_of(root, "HEAD")
    at_head = recorded(root, folder, rev=sha) if sha else None
    return sha if sha and at_head and at_head.md5 == md5 else WORKSPACE


def _bring_back(root: Path, folder: Path, *, cache: Path, mirror: str | None) -> None:
    from components.data import repository

    if repository.restore(root, folder):
        return
    known = recorded(root, folder)
    if known is None or known.stage is None:
        raise DataError(
            f"{folder}: missing, and neither DVC's cache nor its remote has it",
            do="`dvc push` it where it was made, or make it anew",
        )
    at = Path(known.file).parent
    repository.reproduce(root / at, known.stage, cache=cache, mirror=mirror)


def _stored(
    data: DataBrief, bring: Callable[[Path], str], *, cache: Path, rev: str | None = None, md5: str | None = None
) -> Dataset:
    """A folder in `cache`, named by its MD5. When it is not there, `bring` writes it as a new folder and returns the commit."""
    from filelock import FileLock

    from components.data.shards import check_sizes

    store = cache / "datasets"
    try:
        store.mkdir(parents=True, exist_ok=True)
        with FileLock(store / ".lock"):
            if rev and md5 and (store / md5 / MANIFEST).is_file():
                return _dataset(data, store / md5, check_sizes(store / md5), rev=rev, md5=md5)
            with staging(store / "incoming", marker=f"data/{MANIFEST}") as folder:
                commit = bring(folder / "data")
                actual = _checked(data, folder / "data", md5=md5)
            if not (store / actual).exists():
                (store / "incoming" / "data").replace(store / actual)
    except OSError as error:
        raise disk_error(error, store) from error
    return _dataset(data, store / actual, check_sizes(store / actual), rev=commit, md5=actual)


def _checked(data: DataBrief, folder: Path, *, md5: str | None) -> str:
    """The MD5 of what was brought. Raises DataError when it is no prepared dataset, or not the one that is recorded."""
    from components.data.shards import verify

    what = f"{data.path} of {data.repo} at {data.rev}"
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{what}: not a prepared dataset, it has no {MANIFEST}", do="name a folder that genwright prepared")
    verify(folder)
    actual = folder_md5(folder)
    if md5 not in (None, actual):
        raise DataError(f"{what}: its files have the MD5 {actual}, not {md5}", do="`dvc push` it again where it was made")
    return actual


def _dataset(data: DataBrief, folder: Path, manifest: Manifest, *, rev: str, md5: str) -> Dataset:
    return Dataset(
        name=Path(data.path).name,
        path=str(folder),
        repo=data.repo,
        rev=rev,
        md5=md5,
        modality=manifest.modality,
        shape=manifest.shape,
        count=manifest.count,
        classes=manifest.classes,
        splits=manifest.splits,
        mean=manifest.mean,
        std=manifest.std,
        quarantined=manifest.quarantine.count,
        duplicates=manifest.report.duplicates if manifest.report else 0.0,
        class_counts=manifest.report.class_counts if manifest.report and manifest.classes else {},
    )


def _is_url(repo: str) -> bool:
    return "://" in repo or repo.startswith("git@")


def _located(data: DataBrief, base: Path) -> tuple[Path, Path | None]:
    """The folder, and the DVC repository it lies in, of a local repository. Raises DataError."""
    repo = (base / data.repo).resolve()
    if not repo.is_dir():
        raise DataError(f"{repo}: no such repository", do="check data.repo in the brief")
    folder = repo / data.path
    root = find_root(folder.parent)
    if root is None and data.rev != "HEAD":
        raise DataError(f"{repo}: not a DVC repository, so it has no revision {data.rev!r}", do="check data.repo and data.rev")
    return folder, root


def _is_work_tree(data: DataBrief, folder: Path, root: Path | None, base: Path) -> bool:
    """At HEAD: the repository one works in, and any that has no git, has only its work tree."""
    if data.rev != "HEAD":
        return False
    return root is None or root == find_root(base.resolve()) or commit_of(root, "HEAD") is None


def _absolute(mirror: str | None) -> str | None:
    """A stage runs in another folder: what is relative here must not be so there."""
    return mirror if mirror is None or "://" in mirror else str(Path(mirror).absolute())
