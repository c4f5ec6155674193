"""What a training that begins with a base is watched by, besides its samples: does it learn by heart, and what does it forget?

    held out        the loss on items of the new data that it does not learn from; rises where items are learnt by heart
    of base         the loss on items that the base drew; rises as what the base knew is forgotten
    base distance   of its samples to what the base drew: how far it has come from there

Each item meets the same noise, at the same levels, in every reading, so two readings differ by their weights alone. The base's
own data need not be here: its draws stand for it, as they do in prior preservation (Ruiz et al. 2022, arXiv:2208.12242, section
3.3), which mixes them into what is learnt from. The players of a GAN have no loss that could be compared over time.

N items.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from components.core.arrays import Stored
from components.core.family import Batch, Family, to_data_units
from components.core.protocols import ItemSplit
from components.core.records import Condition, Reading, TuningPoint
from components.training.drawing import MOST, NOISES, drawn_at_once
from components.training.plan import TrainPlan
from components.training.sampling import TorchSampler

ITEMS = 32  # whose loss is taken in a reading, each at NOISES levels of noise
LOSSES = 2 * ITEMS * NOISES  # of a reading: on held-out items, and on what the base drew
DRAWN = 128  # by the base, to tell a distance to
PRIOR_DRAWN = 512  # at most, to learn from
STEPS = 20  # of its sampler at most: what more would add costs more than the training of a few thousand items
FIRST_SEED = 1 << 20  # of what the base draws: away from the seeds of readings and proofs

Rows = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Drawn:
    """Items that a base drew, [N, *stored_shape], and what each was asked for by."""

    items: Stored
    asked_N: Rows | None
    at_once: int = MOST  # that are drawn, by what is tuned, too

    @classmethod
    def by(cls, base: Family, *, like: ItemSplit, n: int, device: str, at_once: int) -> "Drawn":
        """n items, drawn in STEPS or as few as the base is served in, and asked for as the items of this split are."""
        condition = base.spec.condition
        asked_N = condition.like(like, n, seed=FIRST_SEED) if condition else None
        steps = min(STEPS, getattr(base.config, "steps", STEPS))
        sampler = TorchSampler(base, subject="torch:base", steps=steps, device=device, batch=at_once)
        return cls(sampler(range(FIRST_SEED, FIRST_SEED + n), asked_N), asked_N, at_once)


class WithPrior:
    """A split, and among its items those that the base drew: about `share` of each batch."""

    def __init__(self, split: ItemSplit, drawn: Drawn, *, share: float) -> None:
        self.split, self.drawn, self.item = split, drawn, split.item
        self.place_N = np.arange(round(len(split) * share / (1 - share))) % len(drawn.items)
        self.labels = None
        if split.labels is not None:
            self.labels = np.concatenate([split.labels, _labels(drawn)[self.place_N]])

    def __len__(self) -> int:
        return len(self.split) + len(self.place_N)

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        new = indices < len(self.split)
        taken = np.empty((len(indices), *self.item.stored_shape), self.item.storage.dtype)
        taken[new] = self.split.take(indices[new])
        taken[~new] = self.drawn.items[self.place_N[indices[~new] - len(self.split)]]
        return taken


def drawn_by_base(base: Family, plan: TrainPlan, split: ItemSplit) -> Drawn | None:
    """What the base of a plan draws, told to draw what the items of this split are; None where it begins with none.

    `base`: the plan's family with its first weights. As many at once as memory has room for: raises TrainingFailed where it has
    not for one. Every process takes part, and has all of them.
    """
    if not plan.start.needs_base():
        return None
    share = prior_share(plan)
    wanted = round(len(split) * share / (1 - share))
    n = max(DRAWN, min(PRIOR_DRAWN, wanted))
    at_once = drawn_at_once(base, plan)
    return Drawn.by(copy.deepcopy(base).eval(), like=split, n=n, device=plan.device, at_once=at_once)


def with_prior(split: ItemSplit, drawn: Drawn | None, plan: TrainPlan) -> ItemSplit:
    """What is learnt from: the split, with what the base drew where the plan asks for it."""
    share = prior_share(plan)
    return WithPrior(split, drawn, share=share) if drawn is not None and share else split


def prior_share(plan: TrainPlan) -> float:
    """The share of what is learnt from that the base drew."""
    share: float = getattr(plan.start, "prior_preservation", 0.0)
    return share


def _labels(drawn: Drawn) -> npt.NDArray[np.int64]:
    """Classes that a model is not asked by are not known of what it drew."""
    return np.zeros(len(drawn.items), np.int64) if drawn.asked_N is None else drawn.asked_N.astype(np.int64)


class Tuning:
    """Told of each reading. `distance`: of samples to what the base drew."""

    def __init__(
        self, drawn: Drawn, held_out: ItemSplit, *, condition: Condition | None, distance: Callable[[Stored], float]
    ) -> None:
        every = np.linspace(0, len(held_out) - 1, min(ITEMS, len(held_out))).astype(np.int64)
        self.distance = distance
        self.at_once = drawn.at_once
        self._held_out = (held_out.take(every), condition.of_items(held_out, every) if condition else None)
        self._of_base = (drawn.items[:ITEMS], None if drawn.asked_N is None else drawn.asked_N[:ITEMS])

    def reading(self, reading: Reading, samples: Stored, average: Family, *, device: torch.device) -> Reading:
        """The same reading, with what is seen besides."""
        seen: dict[str, object] = {"base_distance": self.distance(samples)}
        if len(average.turns()) == 1:
            seen |= {
                "held_out": losses_of(average, *self._held_out, device=device, at_once=self.at_once),
                "of_base": losses_of(average, *self._of_base, device=device, at_once=self.at_once),
            }
        return reading.model_copy(update=seen)


def point(reading: Reading, *, step: int) -> TuningPoint:
    """What is kept of a reading for people to look at."""
    return TuningPoint(
        step=step,
        distance=reading.distance,
        noise=reading.noise,
        held_out=reading.held_out,
        of_base=reading.of_base,
        base_distance=reading.base_distance,
    )


@torch.no_grad()
def losses_of(
    family: Family, items: Stored, asked_N: Rows | None, *, device: torch.device, at_once: int = NOISES
) -> tuple[float, ...]:
    """The loss of each item, at the same levels of noise for all, the mean over NOISES of them, of which `at_once` are taken at
    once. Leaves nothing behind."""
    before = [buffer.clone() for buffer in family.buffers()]
    x_N = to_data_units(torch.from_numpy(items), family.spec.item).to(device)
    found = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for at in range(len(items)):
            rng = torch.Generator(device).manual_seed(FIRST_SEED)
            torch.manual_seed(FIRST_SEED)
            total = 0.0
            for first in range(0, NOISES, at_once):
                n = min(at_once, NOISES - first)
                asked = None if asked_N is None else torch.from_numpy(np.repeat(asked_N[at : at + 1], n, axis=0)).to(device)
                batch = Batch(x_N[at : at + 1].repeat(n, *[1] * (x_N.ndim - 1)), asked)
                total += n * float(sum(loss.float() for loss in family.losses(batch, rng).values()))
            found.append(total / NOISES)
    for buffer, known in zip(family.buffers(), before, strict=True):
        buffer.copy_(known)
    return tuple(found)
