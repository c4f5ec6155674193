"""The process that trains: puts trainer, tracker and quality signal together.

Called as `python -m components.pipeline.worker ORDER.json PARENT NUMBER`.

PARENT is the id of the process that waits for it: when that one is gone, the state is saved and the worker ends. Of several
processes of one training, NUMBER 0 of the first machine leads: it alone tracks, reads quality and writes.
"""

import atexit
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from components.core.errors import Conflict, GenwrightError, TrainingFailed
from components.core.files import write_whole
from components.core.record import Record
from components.pipeline.lease import Lease, passed_over, watched
from components.runtime.interruption import SAVE_S
from components.runtime.progress import stage
from components.runtime.screen import BEAT_S
from components.training.folder import WHY
from components.training.plan import TrainPlan

if TYPE_CHECKING:
    from components.training.trainer import Trainer

ORPHAN_CHECK_S = 0.5
LEFT_S = 60.0  # from the end of the parent to that of a process that the first one has not ended
WAIT_S = 60.0  # for an earlier worker of this training, which saves its state and ends when its parent is gone


class Order(Record):
    """What the worker is told: the plan, and in how many processes it is carried out, which meet at a file that does not exist
    yet, or at an address. Where to track it and the extractor that reads quality are told to the machine that leads."""

    plan: TrainPlan
    store: str
    s3_endpoint: str | None = None
    saves: str  # where the store keeps the state while it trains
    tracking_uri: str = ""
    extractor: str = ""
    lease: Lease | None = None  # under which it leads; once another holds it, the training is stopped
    processes: int = 1  # on all machines
    here: int = 1  # of these
    first: int = 0  # the number of the first one here
    meeting: str = ""

    @property
    def shared(self) -> bool:
        """Whether other machines take part, which have nothing of this one's folder."""
        return self.here < self.processes


def lead(order: Order, *, parent: int) -> None:
    """Train to the end of the plan. The checkpoint record is left in the plan's folder."""
    from components.data.shards import open_split
    from components.delivery.store import open_store
    from components.evaluation.extractor import Extractor
    from components.evaluation.signal import FixedNoiseQuality
    from components.pipeline.saved_training import SavedTrainings
    from components.registry.tracking import MlflowTracker
    from components.training.start import build
    from components.training.trainer import Trainer
    from components.training.tuning import Tuning, drawn_by_base, with_prior

    plan, lease = order.plan, order.lease
    assert lease is not None, "the first process leads"
    split, family = open_split(Path(plan.dataset.path), "train", _embeddings(plan), plan.seed), build(plan)
    tracker = MlflowTracker(order.tracking_uri, plan.run_id)
    quality = FixedNoiseQuality.of(Extractor.load(Path(order.extractor), device=plan.device), split, seed=plan.seed)
    drawn, tuning = drawn_by_base(family, plan, split), None
    if drawn is not None:
        held_out = open_split(Path(plan.dataset.path), "validation", _embeddings(plan))
        tuning = Tuning(drawn, held_out, condition=plan.spec.condition, distance=quality.distance_to(drawn.items))
    store = open_store(order.store, s3_endpoint=order.s3_endpoint)
    saves = SavedTrainings(store, order.saves, token=lease.token)
    with saves.uploading(Path(plan.folder)) as saved, tracker:
        learnt = with_prior(split, drawn, plan)
        trainer = Trainer(family, plan, split=learnt, quality=quality, tracker=tracker, tuning=tuning, saved=saved)

        def lost() -> None:
            tracker.leave()
            trainer.stop(passed_over(lease))

        with watched(lease, store, lost=lost):
            _carry_out(trainer, parent=parent)


def _embeddings(plan: TrainPlan) -> Path | None:
    """Those of the captions of its data."""
    return None if plan.embeddings is None else Path(plan.embeddings)


def _carry_out(trainer: "Trainer", *, parent: int) -> None:
    """Train until the end, a signal, or the end of the parent."""

    def stop(number: int, _frame: FrameType | None) -> None:
        trainer.stop(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _when_orphaned(parent, lambda: trainer.stop("the process that started it is gone"))
    trainer.run()


def _end_with_the_first(_number: int, _frame: FrameType | None) -> None:
    """Where all processes are sent a signal, as when a service or the pods of a job are stopped, the first one saves and says
    when all end; this one ends by itself where it does not."""
    leaving = threading.Timer(SAVE_S, os._exit, (1,))
    leaving.daemon = True
    leaving.start()


def follow(order: Order, *, parent: int) -> None:
    """Take part in a training that another process leads, and that ends when it says so."""
    from components.core.arrays import Stored
    from components.core.records import Reading
    from components.data.shards import open_split
    from components.training.start import build
    from components.training.trainer import Trainer
    from components.training.tuning import drawn_by_base, with_prior
    from components.training.untracked import Untracked

    def unread(images: Stored) -> Reading:
        raise AssertionError(f"the first process reads quality, of {len(images)} items too")

    def leave() -> None:
        time.sleep(LEFT_S)
        os._exit(1)

    plan = order.plan
    split, family = open_split(Path(plan.dataset.path), "train", _embeddings(plan), plan.seed), build(plan)
    _when_orphaned(parent, leave)
    learnt = with_prior(split, drawn_by_base(family, plan, split), plan)
    Trainer(family, plan, split=learnt, quality=unread, tracker=Untracked()).run()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two workers must not write to one folder: the one of a parent that was killed may still be at it. Raises Conflict."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=WAIT_S):
            yield
    except Timeout:
        raise Conflict(f"{folder}: another process trains there", do="wait for it, then run the command again") from None


def _together(order: Order, number: int) -> AbstractContextManager[None]:
    from components.runtime.processes import joined

    if order.processes == 1:
        return nullcontext()
    return joined(order.first + number, order.processes, meeting=order.meeting, here=(number, order.here))


def _begin_alike(order: Order, number: int) -> None:
    """Of several machines each has the save that the store has, by its first process. Raises TrainingFailed where one has not."""
    from components.delivery.store import open_store
    from components.pipeline.saved_training import SavedTrainings
    from components.runtime.processes import all_reduce_max
    from components.training.folder import STATE
    from components.training.state import saved_step

    folder = Path(order.plan.folder)
    if number == 0:
        SavedTrainings(open_store(order.store, s3_endpoint=order.s3_endpoint), order.saves, token=0).restore(folder)
    all_reduce_max(0)  # all have come so far
    step = saved_step(folder / STATE)
    if all_reduce_max(step) != step or -all_reduce_max(-step) != step:
        raise TrainingFailed(f"this machine goes on at step {step}, another one elsewhere", do="run it again")


def _when_orphaned(parent: int, then: Callable[[], None]) -> None:
    """SIGKILL of the parent tells us nothing; a changed parent does."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_CHECK_S)
        then()

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()


def main() -> None:
    order, parent, number = Order.read(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    leads = order.first + number == 0
    if not leads:
        signal.signal(signal.SIGTERM, _end_with_the_first)
    try:
        starting = stage(f"training {order.plan.family}/{order.plan.variant}", quiet_s=BEAT_S) if leads else nullcontext()
        with starting, _locked(Path(order.plan.folder)) if number == 0 else nullcontext(), _together(order, number):
            if order.shared:
                _begin_alike(order, number)
            (lead if leads else follow)(order, parent=parent)
    except GenwrightError as error:
        write_whole(Path(order.plan.folder) / WHY, str(error).encode())
        sys.exit(error.exit_code)


if __name__ == "__main__":
    atexit.register(gc.freeze)  # else the last collection walks through torch and MLflow for a second, and frees nothing
    main()
