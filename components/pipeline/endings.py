"""How a run ends: a name, and the one sentence that says why.

| name | is | exit code |
|---|---|---|
| Promoted | its version is champion now | 0 |
| Proposed | every gate passed, and the version waits for a tag that people set in MLflow | 0 |
| Unchanged | nothing that a stage depends on has changed, or another run is at it: nothing was done | 0 |
| Refused | a gate said no or undecided: the version stays a candidate, and nothing broke | 3 |
| Cancelled | a person or a signal ended it | 130 |
| Failed | it could not go on | 1 or 2 |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from components.core.errors import GateRefused, GenwrightError, Interrupted
from components.pipeline import existing
from components.pipeline.run import Produced, Run
from components.runtime.interruption import AGAIN, WATCH

Name = Literal["Promoted", "Proposed", "Unchanged", "Refused", "Cancelled", "Failed"]


@dataclass(frozen=True)
class Ending:
    """The end of a run. `error`: what a command raises for it. `produced`: the version that it made, or that stands."""

    name: Name
    sentence: str
    run: Run | None = None
    produced: Produced | None = None
    error: BaseException | None = None


def judged(run: Run | None, produced: Produced) -> Ending:
    """Promoted; Proposed where it waits for a tag; or Refused with what the gates said."""
    try:
        existing.refuse_unless_passed(produced)
    except GateRefused as refused:
        return Ending("Refused", str(refused), run, produced, refused)
    return Ending("Proposed" if produced.awaits else "Promoted", existing.produced_line(produced), run, produced)


def ending_of(work: Callable[[], Ending]) -> Ending:
    """How `work` ends. What is none of our errors is a defect, and is raised."""
    try:
        return work()
    except GateRefused as error:
        return Ending("Refused", str(error), error=error)
    except Interrupted as error:
        return Ending("Cancelled", str(error), error=error)
    except KeyboardInterrupt as error:
        name = WATCH.first.name if WATCH.first else "SIGINT"
        return Ending("Cancelled", f"interrupted: {name}; {AGAIN}", error=error)
    except GenwrightError as error:
        return Ending("Failed", str(error), error=error)
