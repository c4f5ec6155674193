"""A stage runs once for the same inputs: its record is its own proof, kept in the folder of the run.

Prefect's cache is not used: it ignores changes in helpers and returns paths whose files are gone. Here the key of the run
stands for every input (brief, data version, package version), and a record counts only while what it names still exists.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from components.core.errors import RunError
from components.core.record import Record

R = TypeVar("R", bound=Record)


def load_or_run(path: Path, kind: type[R], make: Callable[[], R], *, is_valid: Callable[[R], bool] = lambda record: True) -> R:
    """The record at `path` while it `is_valid`, else what `make` gives, written to `path` when it is done."""
    known = recall(path, kind)
    if known is not None and is_valid(known):
        return known
    made = make()
    made.write(path)
    return made


def recall(path: Path, kind: type[R]) -> R | None:
    """The record at `path`, or None when there is none or an older version of genwright wrote it."""
    if not path.exists():
        return None
    try:
        return kind.read(path)
    except RunError:
        return None
