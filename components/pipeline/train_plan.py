"""What a run asks of a training: where its weights begin, its recipe, its budget, and the devices that it takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.core.conditioning import condition_of
from components.core.errors import DeviceMissing, InputError
from components.core.records import Condition, DataSpec, EmbeddingCondition, LocalDataset
from components.pipeline.backends import Backends
from components.pipeline.run import Adapter, Run
from components.runtime.cpus import usable_cpus
from components.runtime.machines import ALONE, Machine
from components.training.start import Start, find_start

if TYPE_CHECKING:
    from components.training.plan import TrainPlan
    from components.training.start.combine import Addend

SIGNAL_STEPS = 8  # of a reading of the quality, where the family takes several


def train_plan(
    run: Run,
    folder: Path,
    run_id: str,
    *,
    data: LocalDataset,
    start: Start,
    machine: Machine = ALONE,
    embeddings: Path | None = None,
    pause_at: float | None = None,
) -> "TrainPlan":
    """All that a worker is told. `folder`: of the stage; `data` and `embeddings` are on this machine."""
    from components.families import find_card, maker
    from components.training.plan import TrainPlan

    brief, dataset, decision, student = run.brief, run.dataset, run.decision, run.student
    stepwise = find_card(decision.family, decision.variant).stepwise
    one_step = {"steps": 1} if stepwise and decision.delivery == "one_pass" else {}
    # sorted: the order in the YAML says nothing
    config = one_step | decision.config | (dict(sorted(brief.override.config.items())) if brief.override else {})
    variant = maker(decision.family, decision.variant, decision.delivery)
    if student is not None:
        from components.training.distillation import recipe

        sizes = {"steps": student.trained_for, "width": student.width}
        config = recipe(student.checkpoint, **sizes, lr_peak=student.lr_peak, adversarial=student.adversarial)
        variant = decision.variant
    if run.base is not None:
        from components.training.start.finetune import recipe as base_recipe

        config = base_recipe(run.base.checkpoint, variant=variant, start=type(start)) | config
    return TrainPlan(
        family=decision.family,
        variant=variant,
        config=config,
        start=start,
        spec=DataSpec.of(dataset, condition=_condition(run, config, variant=variant)),
        dataset=data,
        embeddings=None if embeddings is None else str(embeddings),
        folder=str(folder / "train"),
        run_id=run_id,
        device=_device(run),
        seed=brief.seed,
        threads=brief.compute.threads or 0,
        memory_gb=brief.compute.memory_gb,
        **_budget(run, machine),
        pause_at=pause_at,
        signal_steps=student.trained_for if student else SIGNAL_STEPS,
    )


def _condition(run: Run, config: Mapping[str, Any], *, variant: str) -> Condition | None:
    """What items are asked for by: what a base or a teacher is asked by, where a text asks; else what the variant takes."""
    from components.families import find_card

    begun = run.student.checkpoint if run.student else run.base.checkpoint if run.base else None
    negative = find_card(run.decision.family, variant).takes_negative(config)
    if begun is not None and isinstance(begun.spec.condition, EmbeddingCondition):
        negative = negative and begun.spec.condition.negative
    told = run.encoder.record if run.encoder else None
    return condition_of(run.brief.conditioning, classes=run.dataset.classes, encoder=told, negative=negative)


def _budget(run: Run, machine: Machine) -> dict[str, Any]:
    """The end of the training, as it was decided."""
    budget = run.decision.budget
    assert budget is not None, "decided by this version"
    ceiling = budget.lowest(devices=_devices(run, machine))
    if not (run.student or find_start(run.decision.mode).learns):
        return {"items_seen": 1}  # of no training
    return {"items_seen": budget.items_seen, "items_enough": budget.items_enough, "ceiling": ceiling}


def start_of(run: Run, backends: Backends) -> Start:
    """Where the weights begin, the files of it on this machine."""
    if run.student is not None:
        from components.training.start.student import Student

        teacher = run.student.checkpoint
        return Student(teacher=teacher, weights=backends.workspace.open(teacher.weights), adversarial=run.student.adversarial)
    start = find_start(run.decision.mode)
    if run.base is None:
        return start.of()
    weights, given = backends.workspace.open(run.base.checkpoint.weights), run.brief.pretrained
    share = given.prior_preservation if given else 0.0
    own: dict[str, Any] = {"lora": run.lora, "freeze": run.freeze, "prior_preservation": share}
    own["adapters"] = tuple(_addend(each, backends) for each in run.base.adapters)
    return start.of(base=run.base.checkpoint, weights=weights, **own)


def _addend(adapter: Adapter, backends: Backends) -> "Addend":
    from components.training.start.combine import Addend

    kept = adapter.checkpoint
    files = tuple(map(backends.workspace.open, (kept.weights, *kept.adapter)))
    return Addend(checkpoint=kept, weight=adapter.weight, files=files)


def expected_s(run: Run) -> float:
    """Seconds of the clock that the training is expected to take."""
    budget = run.decision.budget
    ceiling = budget.lowest(devices=_devices(run)) if budget else None
    if run.student is not None and ceiling is not None:  # the estimate is its teacher's
        return ceiling.seconds
    return run.decision.estimate.training_s.value


def _device(run: Run) -> Literal["cpu", "cuda"]:
    """Where it trains; facts.device is where it will be served."""
    return run.student.device if run.student else run.facts.device


def _devices(run: Run, machine: Machine = ALONE) -> int:
    """How many GPUs are paid for at once; a CPU counts as one."""
    return processes_of(run, machine) * machine.of if _device(run) == "cuda" else 1


def processes_of(run: Run, machine: Machine = ALONE) -> int:
    """On this machine: as many as compute.workers asks for, and no more than there are GPUs or CPU cores: the brief serves a
    cluster too. Of several machines each has the same share: raises InputError where there is none, DeviceMissing where it has
    too few GPUs.
    """
    import torch

    device, workers = _device(run), run.brief.compute.workers
    there = torch.cuda.device_count() if device == "cuda" else usable_cpus()
    if machine.of == 1:
        return min(workers, there) or workers  # where there is no GPU it is computed elsewhere
    if workers % machine.of:
        raise InputError(f"compute.workers: {workers} on {machine.of} machines", allowed=f"a multiple of {machine.of}")
    if device == "cuda" and there < workers // machine.of:
        what = f"{machine.text} has {there} GPUs, and its share of compute.workers is {workers // machine.of}"
        raise DeviceMissing(what, do="ask for as many a node")
    return workers // machine.of
