"""Carries a training out: its extractor, its MLflow run, and the supervised processes that follow its plan (train_plan.py)."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.core import store_keys
from components.core.errors import GenwrightError, RegistryError
from components.core.files import write_whole
from components.core.record import Record
from components.core.records import AdapterReload, Checkpoint
from components.pipeline.backends import Backends
from components.pipeline.durations import timed
from components.pipeline.encoders import embeddings_of
from components.pipeline.extractor import extractor_folder, load_extractor
from components.pipeline.lease import Lease, check_lease
from components.pipeline.local_data import data_of
from components.pipeline.pretrained import reads_text
from components.pipeline.run import Run, Trained
from components.pipeline.run_params import log_data, params_of, run_name, run_tags
from components.pipeline.train_plan import expected_s, processes_of, start_of, train_plan
from components.policy.view import sentence
from components.runtime.progress import announce

if TYPE_CHECKING:
    from components.pipeline.saved_training import SavedTrainings
    from components.registry.tracking import MlflowTracker
    from components.training.plan import TrainPlan

UNTRAINED: dict[str, Any] = {"step": 0, "steps_total": 0, "train_s": 0.0, "quality": 0.0}  # of a checkpoint that was not read


class Tracked(Record):
    """The MLflow run of a training."""

    run_id: str


def train_in_worker(run: Run, held: Lease, backends: Backends, folder: Path, *, pause_at: float | None = None) -> Trained:
    """Train in processes of their own, to the end or to where it pauses; its best weights so far are put into the store."""
    from components.pipeline.saved_training import remove_snapshots
    from components.registry.tracking import MlflowTracker, status_after
    from components.training.folder import FINISHED, PAUSED, kept_files

    settings, saves, own = backends.settings, saves_of(run, held, backends), folder / "train"
    machine, here = backends.machine, processes_of(run, backends.machine)
    saves.claim()
    data = data_of(run, backends)
    extractor = extractor_folder(data, backends)
    with timed("Preparation", backends, run):  # the extractor and MLflow's database, where there are none yet
        load_extractor(data, backends)
        start, embeddings = start_of(run, backends), embeddings_of(run, data, backends)
        plan_of = partial(
            train_plan, run, folder, data=data, start=start, machine=machine, embeddings=embeddings, pause_at=pause_at
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
    plan = train_plan(run, folder, "", data=data, start=start_of(run, backends), machine=backends.machine, embeddings=embeddings)
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
    here, own = processes_of(run, machine), folder / f"machine-{machine.number}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    data, start = data_of(run, backends), start_of(run, backends)
    embeddings = embeddings_of(run, data, backends)
    order = Order(
        plan=train_plan(run, own, "", data=data, start=start, machine=machine, embeddings=embeddings),
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


def saves_of(run: Run, held: Lease, backends: Backends) -> "SavedTrainings":
    """The state of its training that is under way, in the store."""
    from components.pipeline.saved_training import SavedTrainings

    return SavedTrainings(backends.store, store_keys.training_state(run.brief.name, run.key("train")), token=held.token)


def saved_step(run: Run, backends: Backends) -> int:
    """The step of the save that the store has of its training; -1 where there is none."""
    from components.pipeline.saved_training import SavedTrainings

    return SavedTrainings(backends.store, store_keys.training_state(run.brief.name, run.key("train")), token=0).step


def has_begun(run: Run, backends: Backends) -> bool:
    """Whether its training has an MLflow run, so it began once."""
    return backends.store.get(store_keys.run_record(run.brief.name, run.key("train"), "tracked")) is not None


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
