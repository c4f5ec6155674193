"""What DVC's text files say about a folder, in the work tree or at a git revision. Reads YAML and asks git; does not import dvc.

The MD5 of a folder is that of a JSON list of its files' MD5 and paths, and ends in `.dir`.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.core.errors import DataError
from components.core.files import CHUNK_BYTES
from components.core.plain_yaml import load_yaml
from components.core.yaml_values import NotPlain


@dataclass(frozen=True)
class Recorded:
    """A folder that DVC tracks, by itself or as a part of a larger one."""

    md5: str  # of the folder that is tracked
    file: str  # dvc.lock or NAME.dvc, relative to the DVC root
    stage: str | None  # the stage of dvc.yaml that makes it; None for `dvc add`
    tracked: Path  # the folder that is tracked, absolute
    part: str = ""  # where in it the one that was asked for lies; empty when it is that one


def find_root(path: Path) -> Path | None:
    """The DVC repository that `path` lies in, which need not exist itself."""
    return next((parent for parent in (path, *path.parents) if (parent / ".dvc" / "config").is_file()), None)


def recorded(root: Path, folder: Path, *, rev: str | None = None) -> Recorded | None:
    """What is recorded of `folder` (absolute, below `root`) in the work tree, or at a git revision. None: it is not tracked."""
    if not folder.is_relative_to(root) or folder == root:
        return None
    inside = folder.relative_to(root)
    for tracked in (inside, *inside.parents[:-1]):  # the folder itself, else the nearest that holds it
        found = _recorded(root, tracked, rev)
        if found is not None:
            part = inside.relative_to(tracked).as_posix() if tracked != inside else ""
            return Recorded(*found, tracked=root / tracked, part=part)
    return None


def _recorded(root: Path, inside: Path, rev: str | None) -> tuple[str, str, str | None] | None:
    pointer = inside.with_name(f"{inside.name}.dvc")
    for out in _outs(_yaml(root, pointer, rev)):
        if out.get("path") == inside.name and isinstance(out.get("md5"), str):
            return out["md5"], str(pointer), None
    for parent in inside.parents:
        stages = _yaml(root, parent / "dvc.lock", rev).get("stages")
        for name, stage in (stages if isinstance(stages, dict) else {}).items():
            for out in _outs(stage):
                if out.get("path") == inside.relative_to(parent).as_posix() and isinstance(out.get("md5"), str):
                    return out["md5"], str(parent / "dvc.lock"), str(name)
    return None


def _outs(document: Any) -> list[dict[str, Any]]:
    outs = document.get("outs") if isinstance(document, dict) else None
    return [out for out in outs if isinstance(out, dict)] if isinstance(outs, list) else []


def _yaml(root: Path, file: Path, rev: str | None) -> dict[str, Any]:
    if rev is None:
        path = root / file
        text = _read(path) if path.is_file() else ""
    else:
        text = git(root, "show", f"{rev}:./{file.as_posix()}") or ""
    try:
        document = load_yaml(text)
    except NotPlain as error:
        raise DataError(f"{root / file}: not YAML, or in the middle of a merge", do="restore it from git") from error
    return document if isinstance(document, dict) else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", do="restore it from git") from error


def was_recorded(root: Path, file: str, md5: str) -> bool:
    """Whether a commit of any branch records this MD5 in a file of DVC: then the folder with it is an older version."""
    return bool(git(root, "log", "--all", "--max-count=1", "--format=%H", f"-S{md5}", "--", file))


def commit_of(root: Path, rev: str) -> str | None:
    """The commit that `rev` names, or None: no git, no repository, or no such revision."""
    if rev.startswith("-"):
        return None
    found = git(root, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    return found.strip() if found else None


def commit_at(address: str, rev: str) -> str | None:
    """The commit that `rev` names in a repository elsewhere, without cloning it; None where only a clone can tell."""
    if re.fullmatch(r"[0-9a-f]{40}", rev):
        return rev
    if rev.startswith("-") or address.startswith("-"):
        return None
    wanted = ("HEAD",) if rev == "HEAD" else (f"refs/tags/{rev}^{{}}", f"refs/tags/{rev}", f"refs/heads/{rev}")
    listed = git(Path.cwd(), "-c", "core.askPass=true", "ls-remote", address, *wanted) or ""
    found = {name: sha for sha, _, name in (line.partition("\t") for line in listed.splitlines())}
    return next((found[name] for name in wanted if name in found), None)


@contextmanager
def fetched(address: str, rev: str) -> Iterator[Path | None]:
    """A passing repository whose FETCH_HEAD is a branch, tag or commit of another one, without its history; None where there is
    none, or it cannot be reached."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        options = ("-c", "core.askPass=true", "fetch", "--quiet", "--depth", "1")
        came = git(root, "init", "--quiet") is not None and git(root, *options, "--", address, rev) is not None
        yield root if came else None


def git(root: Path, *arguments: str) -> str | None:
    """The output of a git command that only reads; None when it fails or git is not there."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, ValueError):  # ValueError: a NUL in a name
        return None
    return done.stdout if done.returncode == 0 else None


def folder_md5(folder: Path) -> str:
    """The MD5 that DVC gives a folder."""
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    listing = [{"md5": file_md5(path), "relpath": name} for name, path in files]
    return f"{hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"


def file_md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
