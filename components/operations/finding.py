"""What a check of `genwright doctor` is given, and what it says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.core.record import Record
from components.operations.prefect_api import PrefectApi
from components.pipeline.backends import Backends

Verdict = Literal["ok", "warn", "fail"]


class Finding(Record):
    """A line: what was found, and where it is not well, what to do."""

    verdict: Verdict
    what: str
    remedy: str = ""


class Line(Finding):
    """The same, with the check that says it."""

    check: str


@dataclass(frozen=True)
class Installation:
    """What is looked at: the backends of the settings, the Prefect server that the environment names, the current folder.

    `notifies`: whether the settings name a webhook that hears of failures.
    """

    backends: Backends
    prefect: PrefectApi | None
    folder: Path
    notifies: bool = False


def ok(what: str) -> Finding:
    return Finding(verdict="ok", what=what)


def warn(what: str, remedy: str) -> Finding:
    """It works, and will bite."""
    return Finding(verdict="warn", what=what, remedy=remedy)


def fail(what: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding(verdict="fail", what=what, remedy=remedy)
