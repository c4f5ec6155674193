"""The process that trains, `python -m flows.worker ORDER.json`: puts trainer, tracker and quality signal together."""

import signal
import sys
from pathlib import Path
from types import FrameType

from components.core.errors import GenwrightError
from components.core.files import write_whole
from components.core.record import Record
from components.training.plan import TrainPlan


class Order(Record):
    """What the worker is told: the plan, where to track it, and the extractor that reads quality."""

    plan: TrainPlan
    tracking_uri: str
    extractor: str


def run(order: Order) -> None:
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
    with tracker:
        trainer.run()


def main() -> None:
    order = Order.read(Path(sys.argv[1]))
    try:
        run(order)
    except GenwrightError as error:
        write_whole(Path(order.plan.folder) / "why.txt", str(error).encode())
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
