"""How far a training is, as a progress artifact of its run in Prefect's page.

The training leaves how far it is in a file, and a thread of the process that waits for it tells the server. A server that is slow
or away holds up neither.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from pathlib import Path

from components.core.record import Record
from components.pipeline.backends import Backends
from components.pipeline.order import Stage
from components.pipeline.run import Run, folder_of
from components.training.how_far import HowFar, how_far

EVERY_S = 5.0  # between words to the server
END_S = 2.0  # for the last word


@contextmanager
def shown(stage: Stage, run: Record, backends: Backends) -> Iterator[None]:
    """Within a task: while the block trains, its progress shows."""
    if stage.name != "train" or not isinstance(run, Run):
        yield
        return
    ended, telling = threading.Event(), Telling(run.brief.name, folder_of(run, backends, "train") / "train")
    # In the context of the task, which the artifact is then of.
    thread = threading.Thread(target=copy_context().run, args=(telling.until, ended), name="progress-artifact", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(END_S)


class Telling:
    """Tells the server of one training in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder, self._since_s = name, folder, time.time()
        self._told: HowFar | None = None
        self._artifact: object = None

    def until(self, ended: threading.Event) -> None:
        """Now and then, and once more at the end."""
        over = False
        while not over:
            over = ended.wait(EVERY_S)
            with suppress(Exception):  # the server is away; the training is what counts
                self._tell()

    def _tell(self) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        from flows.endings import key_of

        far = how_far(self._folder, since_s=self._since_s)
        if far is None or far == self._told:
            return
        percent, said = 100 * min(1.0, far.done), f"{self._name} is being trained: {far.note}"
        if self._artifact is None:
            key = f"{key_of(self._name)}-training"
            self._artifact = create_progress_artifact(percent, key=key, description=said, _sync=True)
        else:
            update_progress_artifact(self._artifact, percent, description=said, _sync=True)
        self._told = far
