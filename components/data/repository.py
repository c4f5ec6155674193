"""DVC, behind a few functions: the only module that imports it. Quiet, and every error of DVC or git becomes one of ours."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.core.errors import Conflict, DataError, GenwrightError, RunError, disk_error
from components.core.home import DEFAULT
from components.data.lockfiles import Recorded, file_md5

REMOTE = DEFAULT / "dvc-remote"  # below the root
PUSH = "`dvc push` it where it was made"


class NotHeld(DataError):
    """A version that neither DVC's cache nor its remote holds."""


@contextmanager
def _translated(what: str, *, do: str | None = None) -> Iterator[None]:
    """Import dvc without its voice and turn what it raises into one line."""
    import dvc.repo  # noqa: F401 - sets up DVC's loggers, which the next lines then silence

    for name in ("dvc", "dvc_objects", "dvc_data", "scmrepo"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    from dvc.lock import LockError

    try:
        yield
    except GenwrightError:
        raise
    except LockError as error:
        raise Conflict(f"{what}: another DVC command holds the lock", do="run the same command again") from error
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise disk_error(error, what) from error
        raise DataError(f"{what}: {error.strerror or error}: {error.filename or error.filename2}", do=do) from error
    except Exception as error:  # DVC lets those of git, of its index and of every kind of remote through
        raise DataError(f"{what}: {_first_line(error)}", do=do) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(":") if lines else type(error).__name__


@contextmanager
def _work_tree(root: Path) -> Iterator[Any]:
    from dvc.repo import Repo

    # Without waiting, of several that pull at once all but one fail.
    with Repo(str(root), _wait_for_lock=True) as repo:
        yield repo


def _out(repo: Any, folder: Path) -> Any:
    return next((out for out in repo.index.outs if Path(out.fs_path) == folder), None)


def hash_of(root: Path, folder: Path) -> str | None:
    """The MD5 of what lies in a tracked folder now; DVC re-reads only files that changed. None when it is not tracked."""
    with _translated(str(folder)), _work_tree(root) as repo:
        out = _out(repo, folder)
        return None if out is None else str(out.get_hash().value)


def is_cached(root: Path, md5: str) -> bool:
    """Whether DVC's cache holds a folder with this MD5: it was added, committed or pulled once."""
    with _translated(str(root)), _work_tree(root) as repo:
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree

        cached = repo.cache.local
        return cached.exists(md5) and all(cached.exists(each.value) for _, _, each in Tree.load(cached, HashInfo("md5", md5)))


def reproduce(root: Path, stage: str, *, cache: Path, mirror: str | None) -> None:
    """Run one stage of dvc.yaml in a process of its own. Raises RunError with the stage's own line."""
    own = {"GENWRIGHT_DATA_CACHE": str(cache), "GENWRIGHT_DATA_MIRROR": mirror or ""}
    _command(root, "repro", "--single-item", stage, own=own)


def _command(root: Path, verb: str, *arguments: str, own: dict[str, str]) -> None:
    """DVC as a command, for what its library can only do in the current folder. Raises RunError."""
    # A stage says `python`: it must be this one, whether or not the environment is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", verb, *arguments],
        cwd=root,
        env={**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **own},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise RunError(f"dvc {verb} {arguments[-1]} in {root} failed: {said[0] if said else 'it says nothing'}")


def gather(root: Path, known: Recorded, *, to: Path, rev: str | None) -> None:
    """Write a recorded folder, or the part of it that was asked for, as the new folder `to`, from DVC's cache or remote.

    `rev`: the commit that records it; None for the work tree. Raises NotHeld when neither holds it, DataError.
    """
    what = f"{known.tracked} ({known.md5})"
    with _translated(what, do=PUSH), _work_tree(root) as repo:
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree

        cached = repo.cache.local
        _pull(repo, known, [known.md5], rev)
        try:
            listing = Tree.load(cached, HashInfo("md5", known.md5))
        except Exception as error:  # it loads whatever lies there
            raise NotHeld(f"{what}: damaged in DVC's cache: {_first_line(error)}", do=PUSH) from error
        part = Path(known.part).parts
        files = {Path(*key[len(part) :]): entry.value for key, _, entry in listing if entry and key[: len(part)] == part}
        if not files:
            raise DataError(f"{what}: that version has no {known.part or 'file'}", do="check data.path in the brief")
        _pull(repo, known, files.values(), rev)
        for name, md5 in files.items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cached.oid_to_path(md5), to / name)
            if file_md5(to / name) != md5:
                cached.delete(md5)  # damaged there: DVC brings it anew, as its own checkout would
                _pull(repo, known, [md5], rev)
                shutil.copyfile(cached.oid_to_path(md5), to / name)


def _pull(repo: Any, known: Recorded, parts: Iterable[str], rev: str | None) -> None:
    """Bring what DVC's cache lacks from its remote, or from the repository that it was imported from."""
    from dvc_data.hashfile.hash_info import HashInfo

    wanted, said = sorted(set(parts)), ""
    targets, revs = [str(known.tracked)], [rev] if rev else None
    for imported in (False, True):
        missing = [HashInfo("md5", each) for each in wanted if not repo.cache.local.exists(each)]
        if not missing:
            return
        try:
            repo.fetch(targets=targets, revs=revs) if imported else repo.cloud.pull(missing)
        except Exception as error:  # noqa: BLE001 - every kind of remote has its own
            said = said or f" ({_first_line(error)})"
    if not all(repo.cache.local.exists(each) for each in wanted):
        raise NotHeld(f"{repo.root_dir}: neither DVC's cache nor its remote holds {known.md5} of {known.file}{said}", do=PUSH)


def export(url: str, *, rev: str, path: str, to: Path) -> str:
    """Write the folder `path` of a git URL at a revision as the new folder `to`.

    Returns the commit. Raises DataError when there is no such repository, revision or folder, or its files are stored nowhere.
    """
    with _translated(f"{path} of {url} at {rev}", do=f"check path, repo and rev, and {PUSH}"):
        from dvc.fs import download
        from dvc.repo import Repo
        from dvc.repo.open_repo import clean_repos

        try:
            with Repo.open(url, rev=rev, subrepos=True, uninitialized=True) as opened:
                filesystem = opened.dvcfs
                download(filesystem, filesystem.from_os_path(path), str(to))
                return str(opened.get_rev())
        finally:
            clean_repos()


def track(folder: Path, *, root: Path | None, git_root: Path | None) -> None:
    """Put a folder under DVC: `dvc add`, or `dvc commit` where a stage makes it. Sets DVC up first where there is none."""
    with _translated(str(folder), do="name a folder that git does not ignore, or track it by hand with `dvc add`"):
        if root is None:
            root = _initialised(git_root or folder.parent, no_scm=git_root is None)
        with _work_tree(root) as repo:
            out = _out(repo, folder)
            made_by_stage = out is not None and out.stage.cmd
            if not made_by_stage:
                repo.add([str(folder)])
                _check_seen(repo, folder)
        if made_by_stage:
            _command(root, "commit", "--force", str(folder), own={})


def _check_seen(repo: Any, folder: Path) -> None:
    """DVC passes over folders that it takes for ignored: `dvc push` would then leave the data behind without a word."""
    repo._reset()
    if _out(repo, folder) is None:
        raise DataError(
            f"{folder}.dvc: written, but DVC does not find it again: a rule in .gitignore covers {folder.parent}",
            do=f"write that rule as {folder.parent.name}/?*/, or name another folder",
        )


def _initialised(root: Path, *, no_scm: bool) -> Path:
    from dvc.repo import Repo

    with Repo.init(str(root), no_scm=no_scm) as repo, repo.config.edit() as config:
        config["core"] |= {"analytics": False, "check_update": False, "remote": "local"}
        # DVC takes it as relative to the current folder, and writes it down as relative to its own.
        config["remote"]["local"] = {"url": os.path.relpath(root / REMOTE)}
    return root
