"""One production of a model at a time on one home: schedulers do start a run twice (docs/decisions/0004-flows.md)."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from components.core.errors import Conflict
from components.pipeline.backends import Backends
from components.pipeline.run import Run


@contextmanager
def lease(run: Run, backends: Backends) -> Iterator[None]:
    """Hold the model's lock; the kernel frees it when the process dies, however it dies. Raises Conflict when it is held."""
    path = backends.settings.root / "work" / run.brief.name / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Conflict(
            f"{run.brief.name}: another production of it is running", do="wait for it, then run the command again"
        ) from None
    try:
        yield
    finally:
        lock.release()
