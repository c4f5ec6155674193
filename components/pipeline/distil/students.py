"""The students of a teacher: each a production like any other, whose run has a teacher, under a model name of its own.

Its versions are proved beside the teacher, followed by servers, promoted and rolled back. Unchanged inputs find what was trained
before.
"""

from collections.abc import Generator, Sequence

from components.core.brief import Precision
from components.core.errors import RunError
from components.core.records import Ceiling, Checkpoint, Reason, Release, TrainingBudget
from components.evaluation.gates import student_thresholds
from components.pipeline.backends import Backends
from components.pipeline.distil.request import DistillRequest
from components.pipeline.durations import PROOF_S, expected
from components.pipeline.run import SAMPLES, Run, Student, Trained, in_steps, package_version

READ_AT = 2  # steps at which one training for all is read, and its best weights kept, where they are asked for
SOURCE = "arXiv:2406.14548, arXiv:2202.00512"
POST_SHARE = 0.25  # of the minutes of a width, for its student in one step against a critic
POST_RATE = 0.125  # of the student's peak learning rate

Students = Generator[Run, Trained, None]


def students(release: Release, run: Run, trained: Trained, request: DistillRequest) -> Students:
    """Each student's run, the widest first.

    `send` what came of its training. One that halves is taught by the student of twice the steps where there is one, else by
    the teacher; consistency tuning is one training for all numbers of steps, after which the student in one step learns on
    from a critic. Precision is the graph's and takes no training.
    """
    from components.training.distillation import student_card

    card, config = student_card(trained.checkpoint), trained.checkpoint.config
    variant, halving = card.variant, card.student_halves
    trainings = len(request.widths) * (len(request.steps) if halving else 1)
    of_each = request.minutes * 60 / trainings
    seconds = of_each * (1 - POST_SHARE if request.adversarial else 1)
    for width in request.widths:
        before: dict[int, Checkpoint] = {}
        ordered = sorted(request.steps, key=lambda steps: (not halving and steps != READ_AT, -steps))
        for steps in ordered:
            student = Student(
                teacher=release,
                checkpoint=before.get(2 * steps, trained.checkpoint) if halving else trained.checkpoint,
                steps=steps,
                trained_for=steps if halving else ordered[0],
                width=width,
                lr_peak=config["lr_peak"] * (card.student_rate if width == config["width"] else 1.0),
                seconds=seconds,
                device=request.trains_on,
                origin=run.origin,
            )
            for precision in _precisions(request, steps, card.loop_above):
                own: Trained = yield _run(run, student, variant, request, precision)
            before[steps] = own.checkpoint
        if request.adversarial:
            own_rate, own_s = POST_RATE * student.lr_peak, POST_SHARE * of_each
            again = {"checkpoint": own.checkpoint, "lr_peak": own_rate, "seconds": own_s, "steps": 1, "trained_for": 1}
            for precision in _precisions(request, 1, card.loop_above):
                yield _run(run, student.model_copy(update=again | {"adversarial": True}), variant, request, precision)


def _run(run: Run, student: Student, variant: str, request: DistillRequest, precision: Precision) -> Run:
    """The production of a student: its teacher's, but for the name, the variant and the delivery, and the limit among the facts,
    so that another limit trains nothing anew. Its gates hold it to its teacher's recall and coverage too, unless the brief says
    how far."""
    gates = student_thresholds(run.brief.gates)
    serving = run.brief.serving.model_copy(update={"precision": precision})
    brief = run.brief.model_copy(update={"name": request.name, "gates": gates, "serving": serving, "override": None})
    facts = run.facts.model_copy(
        update={"latency_ms": request.latency_ms, "minutes": student.seconds / 60, "device": request.device}
    )
    steps = in_steps(student.steps, adversarial=student.adversarial)
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
    return Run(
        brief=brief,
        dataset=run.dataset,
        facts=facts,
        decision=decision,
        genwright=package_version(),
        student=student,
        encoder=run.encoder,
        proof_network=run.proof_network,
    )


def expected_total(
    release: Release, run: Run, trained: Trained, request: DistillRequest, backends: Backends
) -> tuple[float, str]:
    """Seconds that all trainings, exports and proofs are expected to take, and what they are made of.

    A proof draws the teacher's samples once for all students, and each student's, at the speed that the teacher was measured at
    when it was proved, by the share of its steps and width.
    """
    from components.pipeline.proved import with_proof
    from components.pipeline.release_commands import bundle_of
    from components.training.distillation import student_card

    scores = with_proof(bundle_of(release, backends)[1], backends.workspace).scorecard.metrics
    if "throughput_per_s" not in scores:
        what = f"{release.model} version {release.version}: the proof that says how fast it draws is not in {backends.store.uri}"
        raise RunError(what, do="produce its brief again, which proves it again")
    images_per_s = scores["throughput_per_s"].value
    config, few = trained.checkpoint.config, SAMPLES["few_step"]
    loop_above = student_card(trained.checkpoint).loop_above
    tried = (*request.steps, *((1,) if request.adversarial else ()))
    graphs = [(width, n) for width in request.widths for n in tried for _ in _precisions(request, n, loop_above)]
    shares = sum(steps / config["steps"] * width / config["width"] for width, steps in graphs)
    export_s, _ = expected("Export", backends, run)
    each_s = (export_s or 0.0) + PROOF_S
    total_s = 60 * request.minutes + len(graphs) * each_s + few / images_per_s * (1 + shares)
    made = f"{request.minutes:g} min of training, then {len(graphs)} graphs exported and proved beside their teacher; estimated"
    return total_s, made


def _precisions(request: DistillRequest, steps: int, loop_above: int | None) -> Sequence[Precision]:
    """Those that are asked for, less eight bits where the graph is a loop."""
    looped = loop_above is not None and steps > loop_above
    return [each for each in request.precisions if each != "int8"] if looped else request.precisions
