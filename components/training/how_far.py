"""How far a training is, left as a few bytes in its folder, for another process that shows it. Imports nothing heavy.

Writing never waits for a disk and never fails a training; it is done at most every LEAVE_S.
"""

import time
from contextlib import suppress
from pathlib import Path

from components.core.record import Record
from components.training.folder import PROGRESS

LEAVE_S = 2.0


class HowFar(Record):
    """`done`: 0 to 1; `note`: the step and the losses, say."""

    done: float
    note: str
    at_s: float  # Unix time


class Left:
    """Leaves it in the folder of a training."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS
        self._left_s = -LEAVE_S

    def leave(self, done: float, note: str) -> None:
        """Write it down, unless that was done a moment ago."""
        now_s = time.monotonic()
        if now_s - self._left_s < LEAVE_S:
            return
        self._left_s = now_s
        with suppress(OSError):  # who reads half of it reads it again
            self._path.write_text(HowFar(done=done, note=note, at_s=time.time()).model_dump_json(), encoding="utf-8")

    def remove(self) -> None:
        """At the end of the training."""
        with suppress(OSError):
            self._path.unlink()


def how_far(folder: Path, *, since_s: float) -> HowFar | None:
    """How far the training in a folder is; None where nothing was left since that Unix time."""
    try:
        found = HowFar.model_validate_json((folder / PROGRESS).read_bytes())
    except (OSError, ValueError):
        return None
    return found if found.at_s >= since_s else None
