"""What runs the stages, found by name: a file here is an engine (GENWRIGHT_ENGINE).

It defines `run(job, backends)`: it carries the job out with a `Call` of its own (components/pipeline/production.py), and returns
what the job returns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

from components.core.discovery import names
from components.core.errors import SettingsError
from flows.settings import Settings

if TYPE_CHECKING:
    from components.pipeline.backends import Backends
    from components.pipeline.endings import Ending
    from components.pipeline.production import After, Call

T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """What a command wants done, whichever engine runs its stages: `job(call)` does it."""

    name: str  # of the command
    of: str  # a run, MODEL/KEY, or the release that is distilled
    work: "Callable[[Call], T]"
    ending: "Callable[[T], Ending]"  # of what it returns

    def __call__(self, call: "Call") -> T:
        return self.work(call)


def run(name: str, job: Job[T], backends: "Backends") -> T:
    """What a job returns under the engine of this name. Raises SettingsError for an engine that is not here."""
    if name not in names(__name__):
        raise SettingsError(f"GENWRIGHT_ENGINE: {name}", allowed=", ".join(names(__name__)))
    done: T = import_module(f"{__name__}.{name}").run(job, backends)
    return done


def carry_out(
    name: str, of: str, work: "Callable[[Call, After], T]", backends: "Backends", *, show: bool, ending: "Callable[[T], Ending]"
) -> T:
    """What a command comes to under the engine that the settings name. `show`: each stage's outcome is said."""
    from components.pipeline.report import Report
    from components.runtime.threads import rest_when_idle

    rest_when_idle()
    after = Report(backends.workspace, enabled=show)
    return run(Settings.load().engine_name, Job(name, of, lambda call: work(call, after), ending), backends)
