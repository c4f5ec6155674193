"""One rung of one candidate: trained to a share of its budget from where it paused, then measured as all others are.

Its training is that of the production itself: same key, same plan, same state, so what wins goes on to its end and nothing is
trained twice. What is measured are its best weights so far, drawn by torch with as many samples for all; the time of one item is
that of the exported graph, taken once, as weights do not change it.
"""

from pathlib import Path

from components.core import store_keys
from components.core.errors import ExportError
from components.core.family import Family
from components.core.files import write_whole
from components.core.grid import grid_png
from components.core.modality import find_modality
from components.core.protocols import ItemSampler
from components.core.record import Record
from components.core.records import Artifact, Checkpoint, Metric, Scorecard
from components.pipeline.backends import Backends
from components.pipeline.evidence import leave_evidence, row_of
from components.pipeline.graph_sampler import sampler_of
from components.pipeline.lease import Lease
from components.pipeline.local_data import data_of
from components.pipeline.proof import protocol_of
from components.pipeline.restored import restored
from components.pipeline.run import Run, Trained, folder_of
from components.pipeline.training import train_in_worker

GRID = 64
LATENCY = "latency_p95_ms"


class Rung(Record):
    """What a candidate was at a share of its budget."""

    name: str  # family/variant
    share: float
    checkpoint: Checkpoint
    scorecard: Scorecard
    refused: str = ""  # why its graph cannot be served, if it cannot
    samples: Artifact

    @property
    def latency(self) -> Metric | None:
        return self.scorecard.metrics.get(LATENCY)


def rung(run: Run, held: Lease, backends: Backends, *, share: float, samples: int, before: Rung | None) -> Rung:
    """What the store has of this rung, or what training on gives. `before`: its rung below, whose latency stands."""
    percent = round(100 * share)
    key = store_keys.run_record(run.brief.name, run.key("train"), f"rung-{percent}-{samples}")

    def make() -> Rung:
        trained = train_in_worker(run, held, backends, folder_of(run, backends.home, "train"), pause_at=share)
        measured = _measured(run, trained, backends, share=share, samples=samples, before=before)
        row = row_of(run, trained.checkpoint, measured.scorecard, backends, kind=f"bakeoff-{percent}", share=share)
        leave_evidence(row, backends)
        return measured

    return backends.workspace.read_or_make(key, Rung, make, is_valid=lambda known: backends.workspace.holds(known.samples))


def _measured(run: Run, trained: Trained, backends: Backends, *, share: float, samples: int, before: Rung | None) -> Rung:
    from components.data.shards import open_split
    from components.evaluation.samples import CHUNK, asked_like
    from components.evaluation.score import score
    from components.runtime.progress import reported
    from components.training.sampling import TorchSampler

    data, family, device = data_of(run, backends), restored(run, trained, backends), run.facts.device
    condition = family.spec.condition
    refused = before.refused if before else ""
    with backends.workspace.scratch() as folder:
        timed = None
        if before is None:
            try:
                timed = _exported(run, family, folder, device)
            except ExportError as error:
                refused = str(error)
        subject = f"torch:{trained.checkpoint.weights.sha256}"
        sampler = TorchSampler(family, subject=subject, device=device, batch=CHUNK)
        protocol = protocol_of(run, data, condition, backends, samples=samples)
        with reported("Scores") as progress:
            card = score(sampler, condition=condition, timed=timed, model=family, progress=progress, **protocol)
        if before is not None and before.latency is not None:
            card = card.model_copy(update={"metrics": card.metrics | {LATENCY: before.latency}})
        drawn = sampler([*range(GRID)], asked_like(protocol["reference"], condition, GRID, seed=0))
        item = open_split(data.path, "train").item
        write_whole(folder / "samples.png", grid_png(find_modality(item.modality).pictures(drawn, item)))
        return Rung(
            name=f"{run.decision.family}/{run.decision.variant}",
            share=share,
            checkpoint=trained.checkpoint,
            scorecard=card,
            refused=refused,
            samples=backends.workspace.put(folder / "samples.png"),
        )


def _exported(run: Run, family: Family, folder: Path, device: str) -> ItemSampler:
    """The graph that would be served, one item at a time. Raises ExportError."""
    from components.export.graph import export_graph

    serving, path = run.brief.serving, folder / "model.onnx"
    graph = export_graph(family, path, levels=serving.output == "uint8", precision=serving.precision)
    return sampler_of(family, graph, path, batch=1, device=device)
