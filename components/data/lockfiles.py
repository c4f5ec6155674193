"""What DVC's text files say about a folder, in the work tree or at a git revision. Reads YAML and asks git; does not import dvc.

The MD5 of a folder is that of a JSON list of its files' MD5 and paths, and ends in `.dir`.
"""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import DataError
from components.core.files import CHUNK_BYTES


@dataclass(frozen=True)
class Recorded:
    """A folder that DVC tracks."""

    md5: str
    file: str  # dvc.lock or NAME.dvc, relative to the DVC root
    stage: str | None  # the stage of dvc.yaml that makes it; None for `dvc add`


def find_root(path: Path) -> Path | None:
    """The DVC repository that `path` lies in, which need not exist itself."""
    return next((parent for parent in (path, *path.parents) if (parent / ".dvc" / "config").is_file()), None)


def recorded(root: Path, folder: Path, *, rev: str | None = None) -> Recorded | None:
    """What is recorded of `folder` (absolute, below `root`) in the work tree, or at a git revision. None: it is not tracked."""
    if not folder.is_relative_to(root) or folder == root:
        return None
    inside = folder.relative_to(root)
    pointer = inside.with_name(f"{inside.name}.dvc")
    for out in _outs(_yaml(root, pointer, rev)):
        if out.get("path") == inside.name and "md5" in out:
            return Recorded(md5=out["md5"], file=str(pointer), stage=None)
    for parent in inside.parents:
        stages = _yaml(root, parent / "dvc.lock", rev).get("stages")
        for name, stage in (stages if isinstance(stages, dict) else {}).items():
            for out in _outs(stage):
                if out.get("path") == inside.relative_to(parent).as_posix() and "md5" in out:
                    return Recorded(md5=out["md5"], file=str(parent / "dvc.lock"), stage=str(name))
    return None


def _outs(document: Any) -> list[dict[str, Any]]:
    outs = document.get("outs") if isinstance(document, dict) else None
    return [out for out in outs if isinstance(out, dict)] if isinstance(outs, list) else []


def _yaml(root: Path, file: Path, rev: str | None) -> dict[str, Any]:
    if rev is None:
        path = root / file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    else:
        text = git(root, "show", f"{rev}:./{file.as_posix()}") or ""
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - the safe loader, in C
    except yaml.YAMLError as error:
        raise DataError(f"{root / file}: not YAML", do="restore it from git") from error
    return document if isinstance(document, dict) else {}


def commit_of(root: Path, rev: str) -> str | None:
    """The commit that `rev` names, or None: no git, no repository, or no such revision."""
    found = git(root, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    return found.strip() if found else None


def git(root: Path, *arguments: str) -> str | None:
    """The output of a git command that only reads; None when it fails or git is not there."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False
        )
    except OSError:
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
