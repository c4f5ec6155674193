"""Puts a training together: its extractor, its MLflow run, its plan, and the supervised process that carries it out."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from components.core import store_keys
from components.core.conditioning import condition_of
from components.core.errors import DeviceMissing, GenwrightError, InputError, RegistryError
from components.core.files import write_whole
from components.core.record import Record
from components.core.records import AdapterReload, Checkpoint, Condition, DataSpec, EmbeddingCondition, LocalDataset
from components.pipeline.backends import Backends
from components.pipeline.durations import timed
from components.pipeline.encoders import embeddings_of
from components.pipeline.extractor import extractor_folder, load_extractor
from components.pipeline.lease import Lease, check_lease
from components.pipeline.local_data import data_of
from components.pipeline.pretrained import reads_text
from components.pipeline.run import Adapter, Run, Trained
from components.pipeline.run_params import log_data, params_of, run_name, run_tags
from components.policy.view import sentence
from components.runtime.cpus import usable_cpus
from components.runtime.machines import ALONE, Machine
from components.runtime.progress import announce
from components.training.start import Start, find_start

if TYPE_CHECKING:
    from components.pipeline.saved_training import SavedTrainings
    from components.registry.tracking import MlflowTracker
    from components.training.plan import TrainPlan
    from components.training.start.combine import Addend

UNTRAINED: dict[str, Any] = {"step": 0, "steps_total": 0, "train_s": 0.0, "quality": 0.0}  # of a checkpoint that was not read
SIGNAL_STEPS = 8  # of a reading of the quality, where the family takes several


class Tracked(Record):
    """The MLflow run of a training."""

    run_id: str


def train_in_worker(run: Run, held: Lease, backends: Backends, folder: Path, *, pause_at: float | None = None) -> Trained:
    """Train in processes of their own, to the end or to where it pauses; its best weights so far are put into the store."""
    from components.pipeline.saved_training import remove_snapshots
    from components.registry.tracking import MlflowTracker, status_after
    from components.training.folder import FINISHED, PAUSED, kept_files

    settings, saves, own = backends.settings, saves_of(run, held, backends), folder / "train"
    machine, here = backends.machine, _processes(run, backends.machine)
    saves.claim()
    data = data_of(run, backends)
    extractor = extractor_folder(data, backends)
    with timed("Preparation", backends, run):  # the extractor and MLflow's database, where there are none yet
        load_extractor(data, backends)
        start, embeddings = _start_of(run, backends), embeddings_of(run, data, backends)
        plan_of = partial(
            plan_of_run, run, folder, data=data, start=start, machine=machine, embeddings=embeddings, pause_at=pause_at
        )
        run_id = _tracked(run, backends, folder, plan_of)
        plan = plan_of(run_id)
    try:
        _supervised(
            plan, saves, held, backends, folder, extractor=extractor, processes=here, about_s=expected_s(run) * (pause_at or 1.0)
        )
        ended_at = own / FINISHED
        checkpoint = Checkpoint.read(ended_at if pause_at is None or ended_at.exists() else own / PAUSED)
        paths = kept_files(own, checkpoint)
        adapter = _reloaded(run, checkpoint, paths, backends)
    except BaseException as error:
        with suppress(GenwrightError):  # else the end of the run would hide the end of the training
            check_lease(held, backends.store)  # else the run is another's, who goes on with it
            MlflowTracker(settings.mlflow_uri, run_id).finish(status_after(type(error)))
        raise
    ended = {name: getattr(checkpoint, name) for name in ("items_planned", "items_seen", "threads", "stopped_by")}
    for path in paths:
        backends.workspace.put(path)
    if checkpoint.stopped_by == "paused":
        return Trained(run_id=run_id, checkpoint=checkpoint, adapter=adapter)
    remove_snapshots(own)
    with suppress(RegistryError):  # of one whose record was lost, told before: MLflow keeps the first numbers
        tracker = MlflowTracker(settings.mlflow_uri, run_id)
        tracker.params(ended)
        _track_adapter(tracker, adapter, paths)
    return Trained(run_id=run_id, checkpoint=checkpoint, adapter=adapter)


def _supervised(
    plan: "TrainPlan",
    saves: "SavedTrainings",
    held: Lease,
    backends: Backends,
    folder: Path,
    *,
    extractor: Path,
    processes: int,
    about_s: float,
) -> None:
    """Carry out a plan in processes of their own, from what was saved of it; returns when it has ended well."""
    from components.pipeline.saved_training import remove_if_damaged
    from components.pipeline.worker import Order
    from components.training.supervise import supervise

    settings, machine, own = backends.settings, backends.machine, folder / "train"
    with TemporaryDirectory(prefix="genwright-") as meeting:
        order = Order(
            plan=plan,
            tracking_uri=settings.mlflow_uri,
            extractor=str(extractor),
            store=settings.store_uri,
            s3_endpoint=settings.s3_endpoint,
            saves=saves.prefix,
            lease=held,
            processes=processes * machine.of,
            here=processes,
            meeting=machine.meeting or f"file://{meeting}/processes",
        )
        write_whole(folder / "order.json", order.canonical(), private=True)  # a tracking URI may hold a password
        remove_if_damaged(own)
        if machine.of == 1:
            saves.restore(own)
        else:
            shutil.rmtree(own, ignore_errors=True)  # all machines go on from what the store has
        announce("Training", about_s=about_s, basis="the budget")
        supervise(
            "components.pipeline.worker",
            [str(folder / "order.json"), str(os.getpid())],
            folder=own,
            limit_s=plan.ceiling.seconds * 1.5 + 600 if plan.ceiling else None,
            processes=processes,
        )


def make_untrained(run: Run, held: Lease, backends: Backends, folder: Path) -> Trained:
    """The base, as it is or with adapters added, as what a training gave, with an MLflow run that says what it is."""
    from components.data.shards import open_split
    from components.registry.tracking import MlflowTracker
    from components.training.checkpoint import save_checkpoint
    from components.training.folder import BEST, kept_files

    check_lease(held, backends.store)
    assert run.base is not None, "a start that does not learn begins with a base"
    data, base = data_of(run, backends), run.base.checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    embeddings = embeddings_of(run, data, backends)
    plan = plan_of_run(
        run, folder, "", data=data, start=_start_of(run, backends), machine=backends.machine, embeddings=embeddings
    )
    kept = plan.start.made(plan, open_split(data.path, "train", embeddings))
    run_id = _tracked(run, backends, folder, lambda _: plan)
    tracker, mode = MlflowTracker(backends.settings.mlflow_uri, run_id), run.decision.mode
    own = {"spec": plan.spec, "config": plan.config, "dataset_md5": run.dataset.md5, "run_id": run_id, "stopped_by": mode}
    checkpoint, adapter = base.model_copy(update=own), None
    if kept is not None:
        record = own | {"family": base.family, "variant": base.variant} | UNTRAINED
        checkpoint = save_checkpoint(folder / "train" / BEST, kept, record)
        paths = kept_files(folder / "train", checkpoint)
        adapter = _reloaded(run, checkpoint, paths, backends)
        for path in paths:
            backends.workspace.put(path)
        _track_adapter(tracker, adapter, paths)
    tracker.finish()
    return Trained(run_id=run_id, checkpoint=checkpoint, adapter=adapter)


def _reloaded(run: Run, kept: Checkpoint, files: tuple[Path, ...], backends: Backends) -> AdapterReload | None:
    """What other programs make of the adapter that is about to leave the house; None where there is none."""
    if not kept.adapter or run.base is None:
        return None
    from components.training.adapter.elsewhere import reload_kept

    base, beside = run.base.checkpoint, reads_text(run.origin, backends)
    with timed("Adapter", backends, run, note="loaded by peft and diffusers in a process without genwright"):
        return reload_kept(base, backends.workspace.open(base.weights), kept, files, beside=beside)


def _track_adapter(tracker: "MlflowTracker", adapter: AdapterReload | None, paths: tuple[Path, ...]) -> None:
    """The adapter's files, which are all but the first, and what other programs made of them."""
    if adapter is not None:
        tracker.params({"adapter_loaded": adapter.text})
    for path in paths[1:]:
        tracker.artifact(path, folder="adapter")


def take_part(run: Run, backends: Backends, folder: Path) -> None:
    """Carry out the training of a run as a machine that another one leads: it saves, tracks and uploads nothing."""
    from components.pipeline.worker import Order
    from components.training.supervise import supervise

    machine, settings = backends.machine, backends.settings
    here, own = _processes(run, machine), folder / f"machine-{machine.number}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    data, start = data_of(run, backends), _start_of(run, backends)
    embeddings = embeddings_of(run, data, backends)
    order = Order(
        plan=plan_of_run(run, own, "", data=data, start=start, machine=machine, embeddings=embeddings),
        store=settings.store_uri,
        s3_endpoint=settings.s3_endpoint,
        saves=store_keys.training_state(run.brief.name, run.key("train")),
        processes=here * machine.of,
        here=here,
        first=here * machine.number,
        meeting=machine.meeting,
    )
    write_whole(own / "order.json", order.canonical(), private=True)
    announce("Training", about_s=expected_s(run), basis=f"the budget, {machine.text}")
    arguments = [str(own / "order.json"), str(os.getpid())]
    supervise("components.pipeline.worker", arguments, folder=own / "train", limit_s=None, processes=here)


def start_and_embeddings(run: Run, data: LocalDataset, backends: Backends) -> tuple[Start, Path | None]:
    """Where the weights begin, and the folder of the embeddings of its captions, where a text asks."""
    return _start_of(run, backends), embeddings_of(run, data, backends)


def saves_of(run: Run, held: Lease, backends: Backends) -> "SavedTrainings":
    """The state of its training that is under way, in the store."""
    from components.pipeline.saved_training import SavedTrainings

    return SavedTrainings(backends.store, store_keys.training_state(run.brief.name, run.key("train")), token=held.token)


def saved_step(run: Run, backends: Backends) -> int:
    """The step of the save that the store has of its training; -1 where there is none."""
    from components.pipeline.saved_training import SavedTrainings

    return SavedTrainings(backends.store, store_keys.training_state(run.brief.name, run.key("train")), token=0).step


def items_seen(run: Run, backends: Backends) -> float | None:
    """How many items its training has seen, as MLflow was told last; None where nobody knows."""
    from components.registry.tracking import last_metrics

    with suppress(GenwrightError):
        tracked = backends.workspace.read(store_keys.run_record(run.brief.name, run.key("train"), "tracked"), Tracked)
        if tracked is not None:
            return last_metrics(backends.settings.mlflow_uri, tracked.run_id).get("train/items_seen")
    return None


def _tracked(run: Run, backends: Backends, folder: Path, plan_of: Callable[[str], Any]) -> str:
    """The one MLflow run of this training, the same after a crash."""
    from components.registry.tracking import MlflowTracker, run_exists, start_run

    settings = backends.settings
    uri = settings.mlflow_uri

    def start() -> Tracked:
        run_id = start_run(
            uri,
            experiment=run.brief.name,
            name=run_name(run),
            tags=run_tags(run),
            artifact_root=settings.artifact_root,
            who=settings.who,
            note="\n".join(f"- {sentence(reason.text)}" for reason in run.decision.reasons),
            parent=run.student.teacher.run_id if run.student else None,
        )
        tracker = MlflowTracker(uri, run_id)
        tracker.params(params_of(run, plan_of(run_id)))
        log_data(tracker, run)
        for model, version in _begun_with(run):
            if (model_id := backends.versions.model_id(model, version)) is not None:
                tracker.begins_with(model_id)
        run.write(folder / "run.json")
        tracker.artifact(folder / "run.json")
        return Tracked(run_id=run_id)

    where = store_keys.run_record(run.brief.name, run.key("train"), "tracked")
    tracked = backends.workspace.read_or_make(where, Tracked, start, is_valid=lambda known: run_exists(uri, known.run_id))
    if backends.run_by:  # of whoever goes on with it now
        MlflowTracker(uri, tracked.run_id).tags(backends.run_by)
    return tracked.run_id


def _begun_with(run: Run) -> list[tuple[str, int]]:
    """The releases that it learns from or begins with."""
    teacher = [(run.student.teacher.model, run.student.teacher.version)] if run.student else []
    base = run.base
    added = [(each.model, each.version) for each in base.adapters] if base else []
    return teacher + ([(base.model, base.version)] if base is not None and base.version is not None else []) + added


def _start_of(run: Run, backends: Backends) -> Start:
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


def plan_of_run(
    run: Run,
    folder: Path,
    run_id: str,
    *,
    data: LocalDataset,
    start: Start,
    machine: Machine = ALONE,
    embeddings: Path | None = None,
    pause_at: float | None = None,
) -> Any:
    """What the process that trains is told."""
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

        variant, config = (
            decision.variant,
            recipe(student.checkpoint, steps=student.trained_for, width=student.width, lr_peak=student.lr_peak),
        )
    if run.base is not None:
        from components.training.start.finetune import recipe as base_recipe

        config = base_recipe(run.base.checkpoint, variant=variant, rate=start.base_rate) | config
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
    return _processes(run, machine) * machine.of if _device(run) == "cuda" else 1


def _processes(run: Run, machine: Machine = ALONE) -> int:
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
