"""What may be freed, by kind, and how much room that gives."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.core.bundles import BUNDLE_JSON
from components.core.home import Home
from components.core.stores import StoredObject
from components.operations.unused.records import DIGEST
from components.operations.unused.snapshot import DVC_FOLDER, STATE, Snapshot

FREED = ".freed-"  # what was killed while it removed a folder
Kind = Literal["runs", "training states", "files", "bundles", "extractors", "caches of the home", "trainings of the home"]


@dataclass(frozen=True)
class Unused:
    """An object of the store, or a folder or file of the home, that nothing needs."""

    kind: Kind
    name: str  # its key, or its path
    size_bytes: int
    model: str = ""  # whose lease is held while it is freed; empty for what no production begins with
    path: Path | None = None  # in the home
    files: tuple[tuple[tuple[int, int], int, int], ...] = ()  # file, size and names of each, where other names may have it


def records(found: Snapshot) -> list[Unused]:
    """Records of runs that nothing needs, with the states of their trainings: those that depend on others first, so that one
    who is stopped half-way leaves nothing that was made from what is gone."""
    order = ("promote", "seal", "prove", "export", "train", "tracked", "run")

    def place(each: Unused) -> int:
        stage = each.name.rpartition("/")[2].removesuffix(".json")
        return order.index(stage) if stage in order else -1

    gone = [folder for name, folder in found.folders.items() if name not in found.needed]
    states = [_object("training states", each, folder.model) for folder in gone for each in folder.objects if _is_state(each)]
    others = [_object("runs", each, folder.model) for folder in gone for each in folder.objects if not _is_state(each)]
    return [*sorted(states, key=lambda each: not each.name.endswith("saved.json")), *sorted(others, key=place)]


def extractors(found: Snapshot) -> list[Unused]:
    """Records of the extractors of datasets that no run names which is needed."""
    gone = [objects for md5, objects in found.extractors.items() if md5 not in found.needed]
    return [_object("extractors", each) for objects in gone for each in objects]


def files(found: Snapshot, *, named: frozenset[str]) -> list[Unused]:
    """Artifacts and bundles that nothing needs and no record names; of a bundle its own record first: without it, it is none."""
    keep = found.needed | named
    old = [each for each in found.artifacts if each.modified_s < found.limit_s]
    artifacts = [_object("files", each) for each in old if each.key.split("/")[1] not in keep]
    gone = [objects for sha256, objects in found.bundles.items() if sha256 not in keep]
    in_order = [sorted(objects, key=lambda each: not each.key.endswith(BUNDLE_JSON)) for objects in gone]
    return artifacts + [_object("bundles", each) for objects in in_order for each in objects]


def home(found: Snapshot, home: Home) -> list[Unused]:
    """Caches of what is not needed, and trainings, in the home, which were not used for as long."""
    unused: list[Unused] = []
    for folder in (home.bundles, home.artifacts, home.extractors, home.encoders, home.embeddings, home.data / "datasets"):
        unused += [_path("caches of the home", each) for each in _entries(folder) if _is_unused(each, found)]
        unused += [_path("caches of the home", each) for each in folder.glob(f"{FREED}*")]
    unused += [_path("caches of the home", each) for each in _entries(home.data / "raw") if last_used_s(each) < found.limit_s]
    for model in _entries(home.works):
        unused += [
            _path("trainings of the home", each, model=model.name)
            for each in _entries(model)
            if model.name not in found.busy and last_used_s(each) < found.limit_s
        ]
    return unused


def room(unused: Sequence[Unused]) -> dict[Kind, tuple[int, int]]:
    """How many of each kind, and how many bytes that frees: a file that has other names, too, goes with the last of them."""
    freed = Counter(file for each in unused for file, _, _ in each.files)
    counted: set[tuple[int, int]] = set()
    found: dict[Kind, tuple[int, int]] = {}
    for each in unused:
        size = 0 if each.files else each.size_bytes
        for file, size_bytes, names in each.files:
            if file not in counted and freed[file] >= names:
                size += size_bytes
            counted.add(file)
        count, total = found.get(each.kind, (0, 0))
        found[each.kind] = (count + 1, total + size)
    return found


def _is_state(each: StoredObject) -> bool:
    return f"/{STATE}/" in each.key


def _object(kind: Kind, each: StoredObject, model: str = "") -> Unused:
    files = () if each.file is None else ((each.file, each.size_bytes, each.names),)
    return Unused(kind, each.key, each.size_bytes, model=model, files=files)


def _path(kind: Kind, path: Path, *, model: str = "") -> Unused:
    stats = _stats(path)
    files = tuple(((stat.st_dev, stat.st_ino), stat.st_size, stat.st_nlink) for stat in stats)
    return Unused(kind, str(path), sum(stat.st_size for stat in stats), model=model, path=path, files=files)


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (each for each in sorted(folder.iterdir()) if not each.name.startswith("."))


def _stats(path: Path) -> list[os.stat_result]:
    """Of every file in a folder, or of the file; without those that went meanwhile."""
    found = []
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            if each.is_file() and not each.is_symlink():
                found.append(each.stat())
    return found


def last_used_s(path: Path) -> float:
    """When anything in it was written last, or it was marked as used."""
    with suppress(FileNotFoundError):
        return max([path.stat().st_mtime, *(stat.st_mtime for stat in _stats(path))])
    return math.inf


def _is_unused(folder: Path, found: Snapshot) -> bool:
    """Whether it is the cache of something that is not needed, and was not used lately."""
    digest = folder.name.removesuffix(DVC_FOLDER)
    is_cache = folder.is_dir() and DIGEST.fullmatch(digest) is not None
    return is_cache and digest not in found.needed and last_used_s(folder) < found.limit_s
