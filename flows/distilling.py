"""From a release to the cheapest student of it that is fast enough and no worse: every student tried, the curve, the one chosen.

A student is a production like any other (flows/stages.py) whose run has a teacher, under a model name of its own: its versions
are proved beside the teacher, followed by servers, promoted and rolled back. Unchanged inputs find what was trained before.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from components.core.brief import Brief, Precision
from components.core.errors import GateRefused, InputError
from components.core.files import write_whole
from components.core.record import Record, first_complaint
from components.core.records import Bundle, Ceiling, Checkpoint, Metric, Reason, Release, TrainingBudget
from flows import stages, standing
from flows.durations import PROOF_S
from flows.memo import recall
from flows.opened import check_data, training_of
from flows.place import Place
from flows.runs import SAMPLES, Exported, Proof, Run, Student, Trained, folder_of, package_version
from flows.settings import device_for

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
LOST = 0.1  # recall and coverage that a student may lose against its teacher: a tenth of the data
READ_AT = 2  # steps at which one training for all is read, and its best weights kept, where they are asked for
MEASURED = ("latency_p95_ms", "throughput_per_s", "fd", "fd_ratio", "recall", "recall_lost", "coverage", "coverage_lost")
SOURCE = "arXiv:2406.14548, arXiv:2202.00512"


class Tried(Record):
    """One student: what it is, what it takes and how good it is beside its teacher."""

    variant: str
    steps: int
    width: int
    precision: str
    size_mb: float
    train_s: float
    latency_p95_ms: Metric
    throughput_per_s: Metric
    fd: Metric
    fd_ratio: Metric
    recall: Metric
    recall_lost: Metric
    coverage: Metric
    coverage_lost: Metric
    verdict: str
    refused_for: tuple[str, ...]
    advice: str = ""
    run_key: str


class Curve(Record):
    """All that was tried, and the place of the chosen one: the fastest that every gate passed; None where none did."""

    teacher: Release
    latency_ms: float | None
    device: str
    teacher_fd: Metric
    teacher_latency_p95_ms: Metric
    teacher_throughput_per_s: Metric
    teacher_recall: Metric
    teacher_coverage: Metric
    tried: tuple[Tried, ...]
    chosen: int | None


@dataclass(frozen=True)
class Wish:
    """What is asked for: `steps`, `widths` and `precisions` to try, and minutes for all trainings together."""

    name: str
    steps: tuple[int, ...]
    widths: tuple[int, ...]
    precisions: tuple[Precision, ...]
    minutes: float
    adversarial: float
    latency_ms: float | None
    device: Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Finished:
    """One student at the end of its proof."""

    run: Run
    trained: Trained
    exported: Exported
    proof: Proof


Students = Generator[tuple[Run, Trained | None], Trained, None]


def wish_of(
    reference: str,
    place: Place,
    *,
    name: str | None,
    steps: Sequence[int] | None,
    widths: Sequence[float],
    precisions: Sequence[str] | None,
    minutes: float,
    adversarial: float,
    latency_ms: float | None,
    device: Literal["cpu", "cuda"],
) -> Wish:
    """The wish, its gaps filled from the teacher. Raises InputError for a name, steps, widths, precisions or a device that cannot
    be."""
    import torch

    from components.training.distillation import STEPS, student_variant

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: there is no CUDA device here", allowed="cpu")
    release, run, trained = teacher_of(reference, place)
    name = _checked(name or f"{release.model}-distilled", release, run)
    allowed = STEPS[student_variant(trained.checkpoint.family, trained.checkpoint.variant)]
    if trained.checkpoint.variant == "ddpm":
        allowed = tuple(count for count in allowed if 2 * count <= trained.checkpoint.config["steps"])
    if wrong := [share for share in widths if not 0 < share <= 1]:
        raise InputError(f"--widths {wrong[0]:g}", allowed="shares of the teacher's width, above 0 and up to 1")
    if odd := sorted(set(precisions or ()) - set(PRECISIONS)):
        raise InputError(f"--precisions {odd[0]}", allowed=", ".join(PRECISIONS))
    chosen: Sequence[str] = precisions or ("fp32", "fp16" if device == "cuda" else "int8")
    return Wish(
        name=name,
        steps=steps_of(steps, allowed, chosen),
        widths=tuple(sorted({_width(trained.checkpoint.config["width"], share) for share in widths}, reverse=True)),
        precisions=tuple(each for each in PRECISIONS if each in chosen),
        minutes=minutes,
        adversarial=adversarial,
        latency_ms=latency_ms or run.brief.serving.latency_ms,
        device=device,
    )


def steps_of(given: Sequence[int] | None, allowed: Sequence[int], precisions: Sequence[str]) -> tuple[int, ...]:
    """The steps to try, most first: those that are given, or all that are allowed.

    Raises InputError for others, and for more than int8 alone can be had for.
    """
    from components.families.diffusion.sampling import UNROLLED

    if not allowed:
        raise InputError("a teacher of one step has nothing to teach in fewer", do="distil one of more steps")
    if unknown := sorted(set(given or ()) - set(allowed)):
        raise InputError(f"--steps {unknown[0]}", allowed=", ".join(map(str, allowed)))
    most = UNROLLED if set(precisions) == {"int8"} else max(allowed)  # a longer sampler is a loop, whose products are not lowered
    if long := sorted(count for count in given or () if count > most):
        raise InputError(f"--steps {long[0]} in int8 alone", allowed=f"up to {most}", do="add fp32 to --precisions")
    return tuple(sorted({count for count in given or allowed if count <= most}, reverse=True))


def teacher_of(reference: str, place: Place) -> tuple[Release, Run, Trained]:
    """The release to learn from, and the records of its training.

    Raises BriefError for one that has no students, and RunError when its training is not on this machine.
    """
    from components.training.distillation import student_variant
    from flows.moves import bundle_of

    release = place.versions.resolve(reference)
    _, bundle = bundle_of(release, place)
    student_variant(bundle.family, bundle.variant)
    run, trained = training_of(release, bundle.lineage, place)
    check_data(run.dataset, release)
    return release, run, trained


def students(release: Release, run: Run, trained: Trained, wish: Wish) -> Students:
    """Each student's run, the widest first, with the training it shares with one before.

    `send` what came of its training. Halving (of DDPM) is taught by the student of twice the steps where there is one, else by
    the teacher; consistency tuning is one training for all numbers of steps. Precision is the graph's and takes no training.
    """
    from components.training.distillation import RATE, student_variant

    variant, config = student_variant(trained.checkpoint.family, trained.checkpoint.variant), trained.checkpoint.config
    halving = variant == "ddpm"
    trainings = len(wish.widths) * (len(wish.steps) if halving else 1)
    seconds = wish.minutes * 60 / trainings
    for width in wish.widths:
        before: dict[int, Checkpoint] = {}
        shared = None
        for steps in sorted(wish.steps, key=lambda steps: (not halving and steps != READ_AT, -steps)):
            student = Student(
                teacher=release,
                checkpoint=before.get(2 * steps, trained.checkpoint) if halving else trained.checkpoint,
                steps=steps,
                width=width,
                lr_peak=config["lr_peak"] * (RATE[variant] if width == config["width"] else 1.0),
                seconds=seconds,
                adversarial=wish.adversarial,
                device=device_for("auto"),
            )
            for precision in _precisions(wish, steps):
                own: Trained = yield _run(run, student, variant, wish, precision), shared
                shared = shared or own
            before[steps] = own.checkpoint
            shared = None if halving else shared


def expected_total(release: Release, run: Run, trained: Trained, wish: Wish, place: Place) -> tuple[float, str]:
    """Seconds that all trainings, exports and proofs are expected to take, and what they are made of.

    A proof draws the teacher's samples once for all students, and each student's, at the speed that the teacher was measured at
    when it was proved, by the share of its steps and width.
    """
    from flows.durations import expected
    from flows.moves import bundle_of

    images_per_s = bundle_of(release, place)[1].scorecard.metrics["throughput_per_s"].value
    config, few = trained.checkpoint.config, SAMPLES["few_step"]
    graphs = [(width, steps) for width in wish.widths for steps in wish.steps for _ in _precisions(wish, steps)]
    shares = sum(steps / config["steps"] * width / config["width"] for width, steps in graphs)
    export_s, _ = expected("Export", place, run)
    each_s = (export_s or 0.0) + PROOF_S
    total_s = 60 * wish.minutes + len(graphs) * each_s + few / images_per_s * (1 + shares)
    made = f"{wish.minutes:g} min of training, then {len(graphs)} graphs exported and proved beside their teacher; estimated"
    return total_s, made


def _precisions(wish: Wish, steps: int) -> Sequence[Precision]:
    """A sampler of more steps is a loop, whose products are not lowered to eight bits."""
    from components.families.diffusion.sampling import UNROLLED

    return wish.precisions if steps <= UNROLLED else [each for each in wish.precisions if each != "int8"]


def curve_of(release: Release, finished: Sequence[Finished], wish: Wish) -> Curve:
    """The whole trade-off."""
    if not finished:
        raise GateRefused(f"{wish.name}: no graph of a student agrees with its model", do="add fp32 to --precisions")
    tried = tuple(_tried(each) for each in finished)
    passed = [at for at, each in enumerate(tried) if each.verdict == "pass"]
    teacher = finished[0].proof.champion
    if teacher is None:
        raise GateRefused(f"{release.model} version {release.version} makes images of another shape than its student")
    return Curve(
        teacher=release,
        latency_ms=wish.latency_ms,
        device=finished[0].run.facts.device,
        teacher_fd=teacher.metrics["fd"],
        teacher_latency_p95_ms=teacher.metrics["latency_p95_ms"],
        teacher_throughput_per_s=teacher.metrics["throughput_per_s"],
        teacher_recall=teacher.metrics["recall"],
        teacher_coverage=teacher.metrics["coverage"],
        tried=tried,
        chosen=min(passed, key=lambda at: tried[at].latency_p95_ms.value) if passed else None,
    )


def picture_of(name: str, place: Place) -> Path:
    """Where the picture of the last curve stands, its numbers beside it."""
    return place.settings.root / "work" / name / "curve.png"


def keep(curve: Curve, place: Place, name: str) -> None:
    """Write the curve and its picture."""
    from components.evaluation.trade_off import trade_off_plot

    picture = picture_of(name, place)
    curve.write(picture.with_suffix(".json"))
    write_whole(
        picture,
        trade_off_plot(
            {
                f"{each.steps} steps, width {each.width}, {each.precision}": (each.latency_p95_ms, each.fd_ratio, each.verdict)
                for each in curve.tried
            },
            teacher=curve.teacher_latency_p95_ms,
            limit_ms=curve.latency_ms,
            title=f"students of {curve.teacher.model} version {curve.teacher.version}, on {curve.device}",
        ),
    )


def refuse_unless_one_passed(curve: Curve, name: str) -> None:
    """Raises GateRefused with what each student lacks."""
    if curve.chosen is None:
        said = "; ".join(
            f"{each.steps} steps at width {each.width} in {each.precision}: {', '.join(each.refused_for)}" for each in curve.tried
        )
        raise GateRefused(
            f"{name}: no student of {curve.teacher.model} version {curve.teacher.version} is good and fast enough: {said}",
            do="; ".join(dict.fromkeys(each.advice for each in curve.tried if each.advice)) or "try fp32 in --precisions",
        )


def stale(bundle: Bundle, place: Place) -> str | None:
    """Why a student is stale, in one line: its teacher is not the champion any more. None for what is not."""
    from components.core.errors import RunError

    if bundle.lineage.teacher is None:
        return None
    known = place.store.get(f"bundles/{bundle.lineage.teacher}/bundle.json")
    if known is None:
        return f"stale: its teacher's bundle {bundle.lineage.teacher[:12]} is gone from the store"
    try:
        model = Bundle.model_validate_json(known[0]).model
    except ValueError as error:
        raise RunError(f"bundle {bundle.lineage.teacher[:12]} cannot be read: {error}") from error
    champion = standing.champion_of(model, place)
    if champion is None or champion.bundle_sha256 == bundle.lineage.teacher:
        return None
    now = f"its teacher is no longer {model}'s champion, version {champion.version} is"
    return f"stale: {now}; genwright distil {model} makes a new one"


def _run(run: Run, student: Student, variant: str, wish: Wish, precision: Precision) -> Run:
    """The production of a student: its teacher's, but for the name, the variant and the delivery, and the limit among the facts,
    so that another limit trains nothing anew. Its gates hold it to its teacher's recall and coverage too, unless the brief says
    how far."""
    own = {name: LOST for name in ("recall_lost_max", "coverage_lost_max") if getattr(run.brief.gates, name) is None}
    gates = run.brief.gates.model_copy(update={"latency_p95_ms_max": "serving", **own})
    serving = run.brief.serving.model_copy(update={"precision": precision})
    brief = run.brief.model_copy(update={"name": wish.name, "gates": gates, "serving": serving, "override": None})
    facts = run.facts.model_copy(update={"latency_ms": wish.latency_ms, "minutes": student.seconds / 60, "device": wish.device})
    steps = f"{student.steps} step{'s' * (student.steps > 1)}"
    text = f"a student of {student.teacher.model} version {student.teacher.version} in {steps}, {precision}"
    decision = run.decision.model_copy(
        update={
            "variant": variant,
            "delivery": "one_pass" if student.steps == 1 else "few_step",
            "reasons": (Reason(rule="distil", text=text, source=SOURCE), *run.decision.reasons),
            "config": {},
            "budget": TrainingBudget(
                items_seen=None,
                ceilings=(Ceiling(name="--minutes", seconds=student.seconds),),
                text=f"its share of --minutes, {student.seconds:.0f} s: a probe on the device turns it into items seen",
            ),
        }
    )
    return Run(brief=brief, dataset=run.dataset, facts=facts, decision=decision, genwright=package_version(), student=student)


def share(shared: Trained, run: Run, place: Place) -> None:
    """One training serves another number of steps, and another precision: only the graph differs."""
    assert run.student is not None
    folder = folder_of(run, place)
    known = recall(folder / "trained.json", Trained)
    if known is not None and known.checkpoint.sha256 == shared.checkpoint.sha256:
        return
    for stale_record in ("exported.json", "proof.json", "stored.json", "produced.json"):  # of other weights
        (folder / stale_record).unlink(missing_ok=True)
    checkpoint = shared.checkpoint.model_copy(update={"config": shared.checkpoint.config | {"steps": run.student.steps}})
    run.write(folder / "run.json")
    shared.model_copy(update={"checkpoint": checkpoint}).write(folder / "trained.json")


def _checked(name: str, release: Release, run: Run) -> str:
    """A name that a model can have and that is not the teacher's. Raises InputError."""
    if name == release.model:
        raise InputError(f"--as {name}: that is its teacher's", do="leave --as out, or choose another name")
    try:
        Brief.model_validate(run.brief.model_dump(mode="json", exclude_unset=True) | {"name": name})
    except ValidationError as error:
        raise InputError(f"--as {name}: {first_complaint(error)}") from error
    return name


def _width(own: int, share: float) -> int:
    """A share of the teacher's width, in whole multiples of 16."""
    return max(16, round(own * share / 16) * 16)


def _tried(each: Finished) -> Tried:
    metrics, student = each.proof.scorecard.metrics, each.run.student
    assert student is not None
    return Tried(
        variant=each.trained.checkpoint.variant,
        steps=student.steps,
        width=student.width,
        precision=each.exported.precision,
        size_mb=each.exported.file.size_bytes / 1e6,
        train_s=each.trained.checkpoint.train_s,
        verdict=each.proof.gates.verdict if each.proof.agreement.holds else "fail",
        refused_for=(
            *(gate.text for gate in each.proof.gates.gates if gate.verdict != "pass"),
            *(() if each.proof.agreement.holds else (each.proof.agreement.text,)),
        ),
        advice=stages.advised(each.run, each.trained, each.proof),
        run_key=each.run.key,
        **{name: metrics[name] for name in MEASURED},
    )
