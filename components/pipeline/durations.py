"""What each stage is expected to take: what it took in this home before, else an estimate. Said beside it while it runs."""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from components.core.errors import GenwrightError
from components.core.files import write_whole
from components.pipeline.backends import Backends
from components.pipeline.run import SAMPLES, Run
from components.runtime.progress import stage
from components.runtime.screen import Stage

MEASURED = "measured here before"
QUIET_S = 10.0  # away from a terminal, before a line says that a command is starting
FIRST_S = {
    "Starting": 8.0,
    "Preparation": 30.0,
    "Adapter": 15.0,
    "Export": 15.0,
    "Release": 10.0,
}  # rough, of two cores: until one is measured here
PROOF_S = 20.0  # of a proof, beside its samples
MEASURED_MIN_S = 1.0  # what took less was found done already


def expected(title: str, backends: Backends, run: Run | None = None) -> tuple[float | None, str]:
    """The seconds that a stage is expected to take, and how one knows; None where nobody does."""
    if (before := _known(backends).get(_key(title, run))) is not None:
        return before, MEASURED
    if title == "Proof" and run is not None:
        draws = SAMPLES[run.decision.delivery] * run.decision.estimate.latency_ms.value / 1000
        return PROOF_S + draws, "estimated"
    return FIRST_S.get(title), "estimated"


@contextmanager
def timed(
    title: str, backends: Backends, run: Run | None = None, *, note: str = "", quiet_s: float = 0.5, until_next: bool = False
) -> Iterator[Stage]:
    """A stage with its expected total, which is measured for the next time when it ends well."""
    about_s, basis = expected(title, backends, run)
    began = time.monotonic()
    with stage(title, about_s=about_s, basis=basis, quiet_s=quiet_s, until_next=until_next) as shown:
        shown.update(note=note)
        yield shown
        took = (shown.ended_s or time.monotonic()) - began
    if took >= MEASURED_MIN_S:
        with suppress(GenwrightError):  # a full disk is said by what matters more
            write_whole(_path(backends), json.dumps(_known(backends) | {_key(title, run): round(took, 1)}, indent=1).encode())


def starting(what: object, backends: Backends) -> AbstractContextManager[Stage]:
    """Shown until the first stage begins: what follows imports torch and MLflow. Quick answers and refusals come without it."""
    return timed("Starting", backends, note=str(what), quiet_s=QUIET_S, until_next=True)


def _key(title: str, run: Run | None) -> str:
    return title if run is None else f"{title} {run.decision.family}/{run.decision.variant} {run.facts.device} {run.dataset.name}"


def _path(backends: Backends) -> Path:
    return backends.named_home.stage_seconds


def _known(backends: Backends) -> dict[str, float]:
    """Written by whoever was last, or nothing where it cannot be read: it is only a guess."""
    try:
        known = json.loads(_path(backends).read_bytes())
        return {str(key): float(value) for key, value in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
