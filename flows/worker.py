"""The process that trains, `python -m flows.worker ORDER.json PARENT`: puts trainer, tracker and quality signal together.

PARENT is the id of the process that waits for it: when that one is gone, the state is saved and the worker ends.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from components.core.errors import Conflict, GenwrightError
from components.core.files import write_whole
from components.core.record import Record
from components.training.plan import TrainPlan

ORPHAN_CHECK_S = 0.5
WAIT_S = 60.0  # for an earlier worker of this training, which saves its state and ends when its parent is gone


class Order(Record):
    """What the worker is told: the plan, where to track it, and the extractor that reads quality."""

    plan: TrainPlan
    tracking_uri: str
    extractor: str


def run(order: Order, *, parent: int) -> None:
    """Train to the end of the plan. The checkpoint record is left in the plan's folder."""
    from components.data.shards import open_split
    from components.evaluation.extractor import Extractor
    from components.evaluation.signal import FixedNoiseQuality
    from components.registry.tracking import MlflowTracker
    from components.training.trainer import Trainer, build

    plan = order.plan
    split = open_split(Path(plan.dataset.path), "train")
    tracker = MlflowTracker(order.tracking_uri, plan.run_id)
    quality = FixedNoiseQuality.of(Extractor.load(Path(order.extractor), device=plan.device), split, seed=plan.seed)
    trainer = Trainer(build(plan), plan, split=split, quality=quality, tracker=tracker)

    def stop(number: int, _frame: FrameType | None) -> None:
        trainer.stop(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _stop_when_orphaned(parent, trainer.stop)
    with tracker:
        trainer.run()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two workers must not write to one folder: the one of a parent that was killed may still be at it. Raises Conflict."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=WAIT_S):
            yield
    except Timeout:
        raise Conflict(f"{folder}: another process trains there", do="wait for it, then run the command again") from None


def _stop_when_orphaned(parent: int, stop: Callable[[str], None]) -> None:
    """SIGKILL of the parent tells us nothing; a changed parent does."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_CHECK_S)
        stop("the process that started it is gone")

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()


def main() -> None:
    order = Order.read(Path(sys.argv[1]))
    try:
        with _alone(Path(order.plan.folder)):
            run(order, parent=int(sys.argv[2]))
    except GenwrightError as error:
        write_whole(Path(order.plan.folder) / "why.txt", str(error).encode())
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
