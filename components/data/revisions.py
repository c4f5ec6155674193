"""What a brief names: a folder of a repository at a revision becomes the version that is recorded there. Imports no dvc.

`HEAD` is what the .dvc file or dvc.lock says that is checked out; any other revision is what git has recorded at it. The folder
itself is the version only where the brief says `rev: workspace`.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from components.core.brief import DataBrief
from components.core.errors import DataError
from components.data.lockfiles import Recorded, commit_of, find_root, recorded
from components.data.manifest import read_manifest

HEAD, WORKSPACE = "HEAD", "workspace"
OR_WORKSPACE = "or write rev: workspace under data: to use the folder as it lies"


@dataclass(frozen=True)
class Named:
    """A version: what is recorded of a folder, and the commit that records it, or `workspace` for what is not committed."""

    folder: Path
    root: Path
    known: Recorded
    rev: str


def is_address(repo: str) -> bool:
    """Whether a repository is named by an address, and not by a folder.

    >>> is_address("git@example.org:team/data"), is_address("../data")
    (True, False)
    """
    return "://" in repo or re.match(r"[^/\\]+@[^/:]+:", repo) is not None


def address_of(repo: str, base: Path) -> str | None:
    """The address of a repository that is no folder here, or one without a work tree (bare); None for any other folder."""
    if is_address(repo):
        return repo
    at = (base / repo).resolve()
    return at.as_uri() if (at / "HEAD").is_file() and (at / "objects").is_dir() else None


def locate(data: DataBrief, base: Path) -> Path:
    """The folder that a brief names in a local repository, absolute. Raises DataError."""
    repo = Path(os.path.normpath(base / data.repo))
    if not repo.is_dir():
        raise DataError(f"{repo}: no such repository", do="check data.repo in the brief")
    return Path(os.path.normpath(repo.resolve() / data.path))


def resolve(data: DataBrief, base: Path) -> Named:
    """The version that a brief names in a local repository. Raises DataError when there is no such revision or record."""
    folder = locate(data, base)
    root = find_root(folder.parent)
    if root is None:
        _check_exists(data, folder)
        if data.rev != HEAD:
            raise DataError(
                f"{folder}: in no DVC repository, so it has no revision {data.rev!r}", do="check data.repo and data.rev"
            )
        raise DataError(f"{folder}: in no DVC repository, so it is no version", do=f"`dvc init` and `dvc add` it, {OR_WORKSPACE}")
    sha = commit_of(root, data.rev)
    if data.rev != HEAD:
        if sha is None:
            raise DataError(
                f"{root}: no revision {data.rev!r}", do="name a commit, tag or branch of that repository, or workspace"
            )
        known = recorded(root, folder, rev=sha)
        if known is None:
            raise DataError(f"{folder}: not tracked by DVC at {data.rev}", do="check data.path and data.rev in the brief")
        return Named(folder, root, _folder_at(known), sha)
    at_head = recorded(root, folder, rev=sha) if sha else None
    known = recorded(root, folder) or at_head
    if known is None:
        _check_exists(data, folder)
        raise DataError(f"{folder}: not tracked by DVC, so it is no version", do=f"`dvc add` it, {OR_WORKSPACE}")
    return Named(folder, root, _folder_at(known), sha if sha and at_head and at_head.md5 == known.md5 else WORKSPACE)


def _folder_at(known: Recorded) -> Recorded:
    if not known.md5.endswith(".dir"):
        raise DataError(f"{known.tracked}: DVC tracks a file there", do="name a folder that genwright prepared")
    return known


def _check_exists(data: DataBrief, folder: Path) -> None:
    if data.rev == HEAD and not folder.exists():
        read_manifest(folder)  # says how to prepare one
