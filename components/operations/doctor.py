"""Runs all checks at once, each within a time limit; what a check raises becomes a line of it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from components.core.discovery import member, names
from components.core.errors import GenwrightError
from components.operations.finding import Finding, Installation, Line, fail
from components.registry.mlflow_store import load

CHECKS = "components.operations.checks"
LIMIT_S = 5.0  # of a check

Check = Callable[[Installation], Iterable[Finding]]


def examine(installation: Installation, *, limit_s: float = LIMIT_S) -> list[Line]:
    """What all checks say, in the order of their names. They take no longer than `limit_s`, and raise nothing."""
    backends = installation.backends
    if backends.settings.tracking_uri is not None or backends.named_home.mlflow_database.exists():
        load()  # else its loading would count as the time of a check
    checks: dict[str, Check] = {name: member(CHECKS, name, "check") for name in names(CHECKS)}
    running = {name: _Running(check, installation) for name, check in checks.items()}
    until = time.monotonic() + limit_s
    return [line for name, each in running.items() for line in each.lines(name, until, limit_s)]


def is_well(lines: Iterable[Line]) -> bool:
    """Whether nothing fails; what is warned of works."""
    return all(line.verdict != "fail" for line in lines)


class _Running:
    """A check in a thread of its own, which is left behind where it takes too long."""

    def __init__(self, check: Check, installation: Installation) -> None:
        self.found: list[Finding] = []
        self.thread = threading.Thread(target=self._run, args=(check, installation), daemon=True)
        self.thread.start()

    def _run(self, check: Check, installation: Installation) -> None:
        try:
            for each in check(installation):
                self.found.append(each)
        except GenwrightError as error:
            self.found.append(fail(str(error), "mend that first"))
        except Exception as error:  # noqa: BLE001 (a check that breaks says so, and stops no other)
            first = (str(error).splitlines() or [""])[0]
            self.found.append(fail(f"the check itself failed: {type(error).__name__}: {first}", "tell who maintains genwright"))

    def lines(self, name: str, until: float, limit_s: float) -> Iterator[Line]:
        self.thread.join(max(0.0, until - time.monotonic()))
        found, late = list(self.found), self.thread.is_alive()
        if late:
            found.append(fail(f"gave no answer within {limit_s:g} s", "look whether what it asks answers at all"))
        for each in found:
            yield Line(check=name, **each.model_dump())
