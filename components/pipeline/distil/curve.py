"""All students that were tried: the curve of quality and speed, and the one chosen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core import store_keys
from components.core.errors import GateRefused, RunError
from components.core.files import write_whole
from components.core.record import Record
from components.core.records import Artifact, Metric, Release
from components.pipeline import stages
from components.pipeline.backends import Backends
from components.pipeline.distil.request import DistillRequest
from components.pipeline.endings import Ending, judged
from components.pipeline.run import Exported, Produced, Proof, Run, Trained, in_steps

MEASURED = ("latency_p95_ms", "throughput_per_s", "fd", "distance_ratio", "recall", "recall_lost", "coverage", "coverage_lost")


class StudentResult(Record):
    """One student: what it is, what it takes and how good it is beside its teacher."""

    variant: str
    steps: int
    width: int
    precision: str
    adversarial: bool = False
    size_mb: float
    train_s: float
    latency_p95_ms: Metric
    throughput_per_s: Metric
    fd: Metric
    distance_ratio: Metric
    recall: Metric
    recall_lost: Metric
    coverage: Metric
    coverage_lost: Metric
    verdict: str
    refused_for: tuple[str, ...]
    advice: str = ""
    run_key: str  # of its bundle
    export_key: str
    train_key: str

    @property
    def size(self) -> tuple[int, int, str]:
        """What its speed comes of."""
        return self.steps, self.width, self.precision

    @property
    def name(self) -> str:
        """What tells it from the others of a curve."""
        return f"{in_steps(self.steps, adversarial=self.adversarial)}, width {self.width}, {self.precision}"


class Curve(Record):
    """All that was tried, and the place of the chosen one: the fastest that every gate passed, of several of its size the nearest
    to the data; None where none did."""

    teacher: Release
    latency_ms: float | None
    device: str
    teacher_fd: Metric
    teacher_latency_p95_ms: Metric
    teacher_throughput_per_s: Metric
    teacher_recall: Metric
    teacher_coverage: Metric
    tried: tuple[StudentResult, ...]
    chosen: int | None


@dataclass(frozen=True)
class Finished:
    """One student at the end of its proof."""

    run: Run
    trained: Trained
    exported: Exported
    proof: Proof


def curve_of(release: Release, finished: Sequence[Finished], request: DistillRequest) -> Curve:
    """The whole trade-off."""
    if not finished:
        raise GateRefused(f"{request.name}: no graph of a student agrees with its model", do="add fp32 to --precisions")
    tried = tuple(_tried(each) for each in finished)
    teacher = finished[0].proof.champion
    if teacher is None:
        raise GateRefused(f"{release.model} version {release.version} makes items of another shape than its student")
    return Curve(
        teacher=release,
        latency_ms=request.latency_ms,
        device=finished[0].run.facts.device,
        teacher_fd=teacher.metrics["fd"],
        teacher_latency_p95_ms=teacher.metrics["latency_p95_ms"],
        teacher_throughput_per_s=teacher.metrics["throughput_per_s"],
        teacher_recall=teacher.metrics["recall"],
        teacher_coverage=teacher.metrics["coverage"],
        tried=tried,
        chosen=chosen_of(tried),
    )


def chosen_of(tried: Sequence[StudentResult]) -> int | None:
    """The place of it. Graphs of one size are as fast as each other, whatever the clock says of each."""
    passed = [at for at, each in enumerate(tried) if each.verdict == "pass"]
    fastest: dict[tuple[int, int, str], float] = {}
    for each in (tried[at] for at in passed):
        fastest[each.size] = min(each.latency_p95_ms.value, fastest.get(each.size, math.inf))
    return min(passed, key=lambda at: (fastest[tried[at].size], tried[at].distance_ratio.value), default=None)


def _tried(each: Finished) -> StudentResult:
    metrics, student = each.proof.scorecard.metrics, each.run.student
    assert student is not None
    return StudentResult(
        variant=each.trained.checkpoint.variant,
        steps=student.steps,
        width=student.width,
        precision=each.exported.precision,
        adversarial=student.adversarial,
        size_mb=each.exported.graph.size_bytes / 1e6,
        train_s=each.trained.checkpoint.train_s,
        verdict=each.proof.gates.verdict if each.proof.agreement.holds else "fail",
        refused_for=(
            *(gate.text for gate in each.proof.gates.gates if gate.verdict != "pass"),
            *(() if each.proof.agreement.holds else (each.proof.agreement.text,)),
        ),
        advice=stages.advised(each.run, each.trained, each.proof),
        run_key=each.run.key("seal"),
        export_key=each.run.key("export"),
        train_key=each.run.key("train"),
        **{name: metrics[name] for name in MEASURED},
    )


class KeptCurve(Record):
    """A curve as the store has it, with its picture."""

    curve: Curve
    picture: Artifact


def kept_curve(name: str, backends: Backends) -> KeptCurve | None:
    """The last curve of a model, whichever machine tried its students."""
    return backends.workspace.read(store_keys.curve(name), KeptCurve)


def picture_of(name: str, backends: Backends) -> Path:
    """The picture of the last curve, on this machine. Raises RunError where there is none, StorageError."""
    kept = kept_curve(name, backends)
    if kept is None:
        raise RunError(f"{name}: no students of it were tried", do="genwright distil its teacher")
    return backends.workspace.open(kept.picture)


def keep(curve: Curve, backends: Backends, name: str, *, check: Callable[[], None] = lambda: None) -> None:
    """Put the curve and its picture into the store, in place of the last one; `check` raises where that may not be."""
    workspace = backends.workspace
    with workspace.scratch() as folder:
        picture = folder / "curve.png"
        write_whole(picture, _drawn(curve))
        kept = KeptCurve(curve=curve, picture=workspace.put(picture))
    workspace.write(store_keys.curve(name), kept, check=check)


def _drawn(curve: Curve) -> bytes:
    from components.evaluation.trade_off import trade_off_plot

    return trade_off_plot(
        {each.name: (each.latency_p95_ms, each.distance_ratio, each.verdict) for each in curve.tried},
        teacher=curve.teacher_latency_p95_ms,
        limit_ms=curve.latency_ms,
        title=f"students of {curve.teacher.model} version {curve.teacher.version}, on {curve.device}",
    )


def refuse_unless_one_passed(curve: Curve, name: str) -> None:
    """Raises GateRefused with what each student lacks."""
    if curve.chosen is None:
        said = "; ".join(f"{each.name}: {', '.join(each.refused_for)}" for each in curve.tried)
        raise GateRefused(
            f"{name}: no student of {curve.teacher.model} version {curve.teacher.version} is good and fast enough: {said}",
            do="; ".join(dict.fromkeys(each.advice for each in curve.tried if each.advice)) or "try fp32 in --precisions",
        )


def ending(name: str, made: tuple[Curve, Produced | None]) -> Ending:
    """How a distillation into a model of this name ends. Raises GateRefused where no student was good and fast enough."""
    curve, produced = made
    refuse_unless_one_passed(curve, name)
    assert produced is not None
    return judged(None, produced)
