"""A folder that stands in for a hub (GENWRIGHT_HUB_MIRROR), and which commit what it holds is of.

    MIRROR/models--ORG--NAME   a cache as the hub's client keeps it (`hf download ORG/NAME --cache-dir MIRROR`): it knows its
                               branches, tags and commits, and the client resolves a revision there as at the hub
    MIRROR/ORG/NAME            a folder of the files. The client leaves beside them which commit each is of (`hf download ORG/NAME
                               --local-dir MIRROR/ORG/NAME`), until they are changed. Without that nothing here knows it

A revision that nobody could check is recorded as asked for, beside the digests. A commit that is written out is a claim about the
bytes: where the mirror cannot vouch for it, it is refused.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.core.errors import DataError
from components.training.foreign.place import Place

COMMIT = re.compile(r"[0-9a-f]{40}")
NOTES = ".cache/huggingface/download"  # where the client says of each file: its commit, its etag, and when it was written
LATER_S = 1.0  # that a file may seem to be written after its note, as the client has it


def place_in_mirror(where: str, name: str, revision: str | None, *, mirror: Path, patterns: Sequence[str]) -> Place:
    """`where`: what names it in a brief; `patterns`: its files. Raises DataError for what is not there, and for a commit that the
    mirror cannot vouch for."""
    cache = mirror / f"models--{name.replace('/', '--')}"
    if cache.is_dir():
        return _in_cache(where, name, revision, mirror=mirror, cache=cache)
    folder = mirror / name
    if not folder.is_dir():
        raise DataError(f"{where}: no {name} in GENWRIGHT_HUB_MIRROR={mirror}", do="put it there, or unset it")
    commit = _commit_of(folder, patterns)
    if revision is None or not COMMIT.fullmatch(revision):
        return Place(folder, commit, None if commit else revision)
    if commit != revision:
        knows = f"is of commit {commit}" if commit else "knows no commit"
        raise DataError(
            f"{where}: what is in GENWRIGHT_HUB_MIRROR={mirror} {knows}",
            allowed=f"{name}@{commit}, or without a revision" if commit else "a branch or tag, or none: digests are recorded",
            do=f"`hf download {name} --revision {revision} --local-dir {folder}`",
        )
    return Place(folder, commit)


def _in_cache(where: str, name: str, revision: str | None, *, mirror: Path, cache: Path) -> Place:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, cache_dir=mirror, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        there = [*_refs(cache / "refs"), *sorted(path.name for path in (cache / "snapshots").glob("*"))]
        raise DataError(
            f"{where}: no revision {revision or 'main'} of it in GENWRIGHT_HUB_MIRROR={mirror}",
            allowed=", ".join(there[:12]) or "none",
            do=f"`hf download {name} --revision {revision or 'main'} --cache-dir {mirror}`",
        ) from error
    return Place(folder, folder.name)


def _refs(refs: Path) -> Iterator[str]:
    return (path.relative_to(refs).as_posix() for path in sorted(refs.rglob("*")) if path.is_file())


def _commit_of(folder: Path, patterns: Sequence[str]) -> str | None:
    """The commit that all files are of, each unchanged since the client wrote it."""
    every = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    read = {path.relative_to(folder) for path in every if not path.is_relative_to(folder / ".cache")}
    commits = {_noted(folder, path) for path in read}
    return commits.pop() if len(commits) == 1 else None


def _noted(folder: Path, file: Path) -> str | None:
    try:
        commit, _, written, *_ = (folder / NOTES / f"{file}.metadata").read_text().splitlines()
        unchanged = (folder / file).stat().st_mtime - LATER_S <= float(written)
    except (OSError, ValueError):
        return None
    return commit if unchanged and COMMIT.fullmatch(commit) else None
