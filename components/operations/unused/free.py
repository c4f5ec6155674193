"""Frees what nothing needs, beside productions that run and begin meanwhile. docs/decisions/0029-gc.md says why this is safe.

Records go first, those of a model while its lease is held here, so that no production begins with what goes; then, by another
look, the files that no record names any more. Whatever is put, or put again, after the look stays.
"""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import Conflict
from components.operations.unused import plan, snapshot
from components.operations.unused.plan import Kind, Unused
from components.pipeline.backends import Backends
from components.pipeline.lease import check_lease, lease

CHECK_EACH = 50  # objects, between looks at whether the lease is still held


@dataclass(frozen=True)
class Freed:
    """What may go, or went: how many of each kind and how many bytes; and the models that are being produced."""

    room: dict[Kind, tuple[int, int]]
    busy: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.room.values())


def show(backends: Backends, *, older_s: float) -> Freed:
    """What `free` would free now."""
    found = snapshot.take(backends, older_s=older_s)
    gone = plan.records(found) + plan.extractors(found)
    named = found.named_without(each.name for each in gone)
    unused = gone + plan.files(found, named=named) + plan.home(found, backends.home)
    return Freed(plan.room(unused), tuple(sorted(found.busy)))


def free(backends: Backends, *, older_s: float, after: Callable[[str], None] = lambda _: None) -> Freed:
    """Free it. `after` is told of each name that went. Raises StorageError, RegistryError; run again, it goes on."""
    first = snapshot.take(backends, older_s=older_s)
    home = backends.home
    freed: list[Unused] = []
    for model in sorted({each.model for each in plan.records(first) + plan.home(first, home) if each.model}):
        with suppress(Conflict):  # it is being produced: next time
            freed += _free_model(model, backends, first, older_s, after)
    found = snapshot.take(backends, older_s=older_s, before=first)
    freed += [each for each in plan.extractors(found) if _delete(each, backends, found.limit_s, after)]
    found = snapshot.take(backends, older_s=older_s, before=found)
    unnamed = plan.files(found, named=found.named_without())
    freed += [each for each in unnamed if _delete(each, backends, found.limit_s, after)]
    freed += [each for each in plan.home(found, home) if not each.model and _delete(each, backends, found.limit_s, after)]
    return Freed(plan.room(freed), tuple(sorted(found.busy)))


def _free_model(
    model: str, backends: Backends, first: snapshot.Snapshot, older_s: float, after: Callable[[str], None]
) -> list[Unused]:
    """Its records, and its trainings here, by a look that no production of it can make untrue."""
    freed: list[Unused] = []
    with lease(model, backends, frees=True) as held:
        found = snapshot.take(backends, older_s=older_s, before=first)
        for number, each in enumerate(plan.records(found) + plan.home(found, backends.home)):
            if each.model != model:
                continue
            if number % CHECK_EACH == 0:
                check_lease(held, backends.store)
            if _delete(each, backends, found.limit_s, after):
                freed.append(each)
    return freed


def _delete(each: Unused, backends: Backends, limit_s: float, after: Callable[[str], None]) -> bool:
    gone = _remove(each.path, limit_s) if each.path is not None else backends.store.delete_if_older(each.name, limit_s)
    if gone:
        after(each.name)
    return gone


def _remove(path: Path, limit_s: float) -> bool:
    """A folder goes under its name whole: it is moved away first. What was used since stays."""
    with suppress(OSError):
        if plan.last_used_s(path) >= limit_s and not path.name.startswith(plan.FREED):
            return False
        with tempfile.TemporaryDirectory(prefix=plan.FREED, dir=path.parent) as away:
            path.rename(Path(away, path.name))
        path.with_name(f"{path.name}.json").unlink(missing_ok=True)  # of a dataset: the times of its files
        return True
    return False
