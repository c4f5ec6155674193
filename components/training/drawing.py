"""How many items a training draws at once, so that it fits into the memory that it may take: what a base draws before the first
step, the samples of each reading, and the losses that are taken beside them.

Nothing is kept for a backward pass there, so what counts is the most that is alive at one time. A drawing of two items tells it,
and is scaled up: as with a step on a CPU (memory.py), a trial that fails would be the end of the process. A walk over the codes
of an autoencoder takes less than its loss, which has all codes and images before it at once, so that one is weighed.

Fewer at once are the same items to rounding. So `drawing.json` keeps the number beside the state, and a run that goes on never
draws more at once than it did before.
"""

import copy
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from components.core.errors import RunError, TrainingFailed
from components.core.family import Family
from components.core.noise import draw
from components.core.record import Record
from components.runtime.processes import all_reduce_max, rank
from components.training.device import TrainingDevice, open_device
from components.training.folder import DRAWING
from components.training.memory import Trial, free_on
from components.training.plan import TrainPlan

MOST = 64  # at once, where memory has room
WALKING = 256  # by a model that draws value by value: few walks over them
NOISES = 8  # of an item, whose losses are taken at once (tuning.py)
OPERATIONS = 3_000  # of a trial: more than any drawing but a walk over pixels has
FEW, STEPS = 2, 2  # items of a trial, and steps of a sampler that takes several: one that looks back has done so
LIVE_SHARE = 0.33  # of what a pass takes on a CPU; tests/training/peak.py measures 0.38 to 0.63, and more where items share much


class AtOnce(Record):
    """How many items a training draws at once."""

    items: int


def drawn_at_once(family: Family, plan: TrainPlan) -> int:
    """For the family of a plan, in all processes alike: at most as many as in an earlier session of this run.

    Raises TrainingFailed where memory has not room for one.
    """
    on = open_device(plan.device, threads=torch.get_num_threads())
    limit = free_on(on) if plan.memory_gb is None else int(plan.memory_gb * 1e9)
    found = fitting(family, on, limit_bytes=limit)
    path = Path(plan.folder) / DRAWING
    items = -all_reduce_max(-min(found, _known(path)))
    if rank() == 0:
        AtOnce(items=items).write(path)
    return items


def most_at_once(family: Family) -> int:
    """Where memory has room."""
    return WALKING if family.card.discrete else MOST


def fitting(family: Family, on: TrainingDevice, *, limit_bytes: int) -> int:
    """The most items, in halves of MOST, that may be drawn at once. Raises TrainingFailed where one may not."""
    needed, most = weighed(family, on), most_at_once(family)
    if (one := needed(1)) > limit_bytes:
        raise TrainingFailed(
            f"drawing one item takes {one / 1e9:.3g} GB of memory, and there are {limit_bytes / 1e9:.3g} GB",
            do="free some, or choose a smaller network in override.config",
        )
    return next(items for items in (most >> power for power in range(most.bit_length())) if needed(items) <= limit_bytes)


def weighed(family: Family, on: TrainingDevice) -> Callable[[int], float]:
    """The bytes that so many items take while they are drawn, or their losses taken, by small trials of a copy; with what a
    training holds meanwhile, gradients and Adam's two moments."""
    trial = Trial(copy.deepcopy(family).eval(), on)
    held = 3 * sum(each.nbytes for each in family.parameters() if each.requires_grad)
    drawing = _live_bytes(trial, _losses if family.card.sequential == "code" else _draw)
    losses = _live_bytes(trial, _losses) if len(family.turns()) == 1 else 0  # players have none that is taken beside samples

    def needed(items: int) -> float:
        return held + max(drawing * items, losses * min(items, NOISES)) / FEW / LIVE_SHARE

    return needed


@torch.no_grad()
def _live_bytes(trial: Trial, passes: Callable[[Trial], None]) -> int:
    seen = Live()
    with seen, suppress(_Enough):
        passes(trial)
    return seen.most


def _losses(trial: Trial) -> None:
    for progress, turn in trial.turns():
        trial.losses(FEW, progress=progress, turn=turn)


def _draw(trial: Trial) -> None:
    """In few steps; of a walk over pixels, which makes room for all of them first, the beginning."""
    family, device = trial.family, trial.on.device
    sampler = family.sampler(steps=min(STEPS, getattr(family.config, "steps", STEPS))).eval().to(device)
    inputs = [torch.from_numpy(value).to(device) for value in draw(family.noise_inputs(), range(FEW)).values()]
    if (asked := family.spec.condition) is not None:
        inputs.append(torch.from_numpy(asked.rows(FEW)).to(device))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        sampler(*inputs)


class _Enough(Exception):
    """So many operations tell what a walk takes."""


class Live(TorchDispatchMode):
    """Counts the bytes that operations bring to life, until nothing refers to them. Raises _Enough after OPERATIONS."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = self.operations = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        for each in tree_leaves(out):
            if isinstance(each, Tensor) and id(each.untyped_storage()) not in given:
                self._born(each.untyped_storage())
        self.operations += 1
        if self.operations > OPERATIONS:
            raise _Enough
        return out

    def _born(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, storage.nbytes())

    def _gone(self, size: int) -> None:
        self.now -= size


def _known(path: Path) -> int:
    try:
        return AtOnce.read(path).items if path.exists() else WALKING
    except RunError:
        return WALKING
