"""A training at a share of its budget: what a rung judges is what had this share, and not what has learnt since.

    share = items seen when it paused / items planned;    1 where it has ended, by its items or by its ceiling

What was trained to a share stays in the store with its weights, for other numbers of samples and other bake-offs. Where the
production's own training is further already, another one of the same is trained to the share beside it.
docs/decisions/0053-equal-shares.md says why.
"""

from pathlib import Path

from components.core import store_keys
from components.core.records import Checkpoint
from components.pipeline import stages
from components.pipeline.backends import Backends
from components.pipeline.lease import Lease
from components.pipeline.run import Run, Trained, folder_of, record_key
from components.pipeline.training import train_in_worker
from components.training.schedule import READINGS

END = 1.0


def share_of(kept: Checkpoint) -> float:
    """The share of its budget that a training had: that of the reading at which it paused; else as far as it was."""
    if kept.stopped_by != "paused":
        return END
    done, step = kept.items_seen / kept.items_planned, kept.items_seen / kept.steps_total / kept.items_planned
    return next((share for share in reversed(READINGS) if share <= done < share + 2 * step), done)


def trained_to(run: Run, share: float, held: Lease, backends: Backends) -> Trained:
    """The training of a run at this share, or where it has no reading there at the next one; at 1 that of the production.

    Raises TrainingFailed.
    """
    if share == END:
        return stages.train(run, held, backends)
    workspace = backends.workspace
    key = store_keys.run_record(run.brief.name, run.key("train"), f"trained-{round(100 * share)}")

    def train(which: Run) -> Trained:
        return train_in_worker(which, held, backends, folder_of(which, backends.home, "train"), pause_at=share)

    def make() -> Trained:
        own = workspace.read(record_key(run, "train"), Trained) or train(run)
        further = is_further(own.checkpoint, share, readings=_readings(folder_of(run, backends.home, "train")))
        return train(run.model_copy(update={"anew": True})) if further else own

    return workspace.read_or_make(
        key, Trained, make, is_valid=lambda known: workspace.holds(known.checkpoint.weights, *known.checkpoint.adapter)
    )


def is_further(kept: Checkpoint, share: float, *, readings: tuple[float, ...]) -> bool:
    """Whether it has passed what another training of the same would pause at: the first of its readings from the share on. What
    its ceiling ended before is no further."""
    if kept.items_seen < share * kept.items_planned:
        return False
    return share_of(kept) > next(reading for reading in readings if reading >= share)


def _readings(folder: Path) -> tuple[float, ...]:
    """When a training in this folder is read, as shares of its work."""
    from components.training.work import Work, work_path

    path = work_path(folder / "train")
    return Work.read(path).readings if path.exists() else READINGS
