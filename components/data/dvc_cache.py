"""DVC's cache, read without importing dvc: what a version's dataset.json says, where its files lie on this machine already."""

import json
from configparser import ConfigParser, Error
from pathlib import Path

from components.data.lockfiles import Recorded
from components.data.manifest import MANIFEST, Manifest


def cached_manifest(root: Path, known: Recorded) -> Manifest | None:
    """The manifest of a recorded version; None where the cache of that repository lacks it, or lies where only DVC looks."""
    cache = _folder(root)
    wanted = f"{known.part}/{MANIFEST}".lstrip("/")
    try:
        listing = json.loads(_object(cache, known.md5).read_bytes())
        md5 = next(entry["md5"] for entry in listing if entry["relpath"] == wanted)
        return Manifest.model_validate_json(_object(cache, md5).read_bytes())
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        return None


def _object(cache: Path, md5: str) -> Path:
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def _folder(root: Path) -> Path:
    """`cache.dir` of the repository's settings, of which the local ones outrank those in git; relative to .dvc."""
    settings = ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        settings.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    except (Error, UnicodeDecodeError):
        return root / ".dvc" / "cache"
    return root / ".dvc" / settings.get("cache", "dir", fallback="cache")
