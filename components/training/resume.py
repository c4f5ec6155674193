"""Going on with a run that was ended: how far it had come, and the state of its learner, in the plan's folder."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.core.errors import RunError
from components.core.records import Reading, TuningPoint
from components.training.folder import STATE
from components.training.learner import Learner
from components.training.plan import TrainPlan
from components.training.state import load_state, save_state


@dataclass(frozen=True)
class SavedRun:
    """How far a run had come when it was saved."""

    step: int
    read: int  # readings of the quality
    spent_s: float
    rate_scale: float
    best: Reading | None = None  # so far
    lowest: Reading | None = None  # so far, of the loss on held-out items
    tuned: tuple[TuningPoint, ...] = ()  # of a training with a base: what was read


def state_path(plan: TrainPlan) -> Path:
    return Path(plan.folder) / STATE


def save_run(plan: TrainPlan, learner: Learner, run: SavedRun) -> None:
    """Write all that the next step depends on."""
    best, lowest = (None if each is None else each.model_dump() for each in (run.best, run.lowest))
    tuned = [each.model_dump() for each in run.tuned]
    numbers = asdict(run) | {
        "best": best,
        "lowest": lowest,
        "tuned": tuned,
        "plan": plan_digest(plan),
        "micro_batches": learner.parts,
        "recomputing": learner.recomputing,
    }
    save_state(state_path(plan), {**learner.state(), "run": numbers})


def load_run(plan: TrainPlan, learner: Learner) -> SavedRun | None:
    """Bring the learner to the saved state; None where there is none. Raises RunError when it is damaged or another plan's."""
    for left in Path(plan.folder).rglob(".*.safetensors.*"):  # what a killed run was writing
        left.unlink(missing_ok=True)
    state = load_state(state_path(plan))
    if state is None:
        return None
    again = f"delete {state_path(plan)} to train from the start"
    try:
        run = state["run"]
        if run.pop("plan") != plan_digest(plan):
            other = "its saved training state is of another family, config, dataset, seed or start"
            raise RunError(f"{plan.folder}: {other}", do=again)
        learner.load_state(state)
        learner.parts = run.pop("micro_batches")
        if run.pop("recomputing", False):  # a state of an older version says nothing
            learner.recompute()
        best, lowest = (known and Reading.model_validate(known) for known in (run.pop(name, None) for name in ("best", "lowest")))
        tuned = tuple(TuningPoint.model_validate(each) for each in run.pop("tuned", ()))
        return SavedRun(**run, best=best, lowest=lowest, tuned=tuned)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(f"{plan.folder}: its saved training state does not fit ({type(error).__name__})", do=again) from error


def plan_digest(plan: TrainPlan) -> str:
    """What must be the same for a saved state to be gone on with; the budget, for one, may grow."""
    same = plan.model_dump(mode="json", include={"family", "variant", "config", "spec", "seed"})
    same["start"] = plan.start.identity
    return f"{plan.dataset.md5}:{hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()}"
