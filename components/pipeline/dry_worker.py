"""The process of a dry run: seconds of a training, and its graph before it has learnt anything, timed.

Called as `python -m components.pipeline.dry_worker ORDER.json`; leaves dry-run.json beside the order. It is a process of its own
so that the memory it held is that of a training.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import GenwrightError
from components.core.files import write_whole
from components.core.record import Record
from components.core.records import DryRun, Machine
from components.runtime.hardware import machine
from components.training.folder import WHY
from components.training.plan import TrainPlan

if TYPE_CHECKING:
    from components.core.family import Family
    from components.core.protocols import QualitySignal

RESULT = "dry-run.json"


class DryOrder(Record):
    """What is to be measured. `extractor`: empty where the data has none yet, and making one would take longer than all else."""

    plan: TrainPlan
    extractor: str = ""
    tracking_uri: str
    device: str  # of serving
    levels: bool
    precision: str


def main() -> None:
    path = Path(sys.argv[1])
    order = DryOrder.read(path)
    try:
        _timed(order, path.parent).write(path.parent / RESULT)
    except GenwrightError as error:
        write_whole(path.parent / WHY, str(error).encode())
        sys.exit(error.exit_code)


def _timed(order: DryOrder, folder: Path) -> DryRun:
    import torch

    from components.core.errors import ExportError
    from components.data.shards import open_split
    from components.registry.mlflow_store import connect
    from components.registry.tracking import system_sampler
    from components.training.dry_run import measure
    from components.training.start import build

    began = time.monotonic()
    connect(order.tracking_uri)  # as the process of a training does: on a CPU its libraries are most of its memory
    system_sampler()()
    plan = order.plan
    embeddings = None if plan.embeddings is None else Path(plan.embeddings)
    split = open_split(Path(plan.dataset.path), "train", embeddings, plan.seed)
    family = build(plan)
    training = measure(family, plan, split, _quality(order, split))
    trained_on = machine(plan.device, threads=torch.get_num_threads())
    try:
        latency, refused = _latency_ms(family.to("cpu").eval(), order, folder), ""
    except ExportError as error:
        latency, refused = None, str(error)
    took_s = time.monotonic() - began
    on = Machine(training=trained_on, drawing=machine(plan.device))
    return DryRun(device=plan.device, training=training, latency_ms=latency, refused=refused, took_s=took_s, machine=on)


def _quality(order: DryOrder, split: object) -> "QualitySignal":
    """What reads samples while it trains; where nothing is there to read with, its time is taken for none."""
    from components.core.records import Reading
    from components.evaluation.extractor import Extractor
    from components.evaluation.signal import FixedNoiseQuality

    if not order.extractor:
        return lambda _: Reading(distance=0.0)
    extractor = Extractor.load(Path(order.extractor), device=order.plan.device)
    return FixedNoiseQuality.of(extractor, split, seed=order.plan.seed)  # type: ignore[arg-type]


def _latency_ms(family: "Family", order: DryOrder, folder: Path) -> float:
    """p95 of one item of the graph as it would be served: weights do not change it. Raises ExportError."""
    import numpy as np

    from components.evaluation.metrics.latency import timed_ms
    from components.export.graph import export_graph
    from components.pipeline.graph_sampler import sampler_of

    path = folder / "model.onnx"
    graph = export_graph(family, path, levels=order.levels, precision=order.precision)  # type: ignore[arg-type]
    return float(np.quantile(timed_ms(sampler_of(family, graph, path, batch=1, device=order.device), None), 0.95))


if __name__ == "__main__":
    main()
