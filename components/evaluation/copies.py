"""What counts as a copy, said by the data itself: the bound on closeness that memorised and duplicates share.

N items, K neighbours. Closeness is the distance to the nearest training item over the mean distance to the 50 nearest (Carlini
2023, arXiv 2301.13188, section 5.1, without its constant): 0 is a copy, 1 no nearer than the surroundings. Blurred images are
near to everything, and their surroundings keep them from looking copied. A distance is that from the nearest variant of an
item: a shift, a mirror image, another gain (likeness.py).

The bound is what one in 200 training items lies below, each compared with all others. Neither samples nor held-out items have a
part in it, so both can be counted against it, and it needs no interval of its own.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from components.core.arrays import Stored
from components.core.protocols import ItemSplit
from components.evaluation.likeness import nearest_in_split
from components.evaluation.neighbours import Distances, Indices

NEIGHBOURS = 50
TRAINING_ITEMS = 2000  # compared with all others, at most
BY_CHANCE = 0.005  # of training items without a twin lie below the bound
TAIL, TAIL_LEAST = 0.1, 8  # the closest of them, as a share and a number at least, show how few lie closer still
SCALE_LEAST = 0.25  # of the usual mean distance: that of an item which the data repeats 50 times would be 0


@dataclass(frozen=True, eq=False)
class Copies:
    """A training split and items that were held out of it; what is found among them is kept."""

    train: ItemSplit
    held_out: Stored
    seed: int

    @cached_property
    def chosen(self) -> Indices:
        """Training items by chance, without repeats: the first TRAINING_ITEMS stand for all."""
        count = min(len(self.train), 2 * TRAINING_ITEMS)
        return np.random.default_rng([self.seed, 5]).choice(len(self.train), count, replace=False).astype(np.int64)

    @cached_property
    def _neighbours(self) -> Distances:
        """Of the training items that stand for all, to the others, and of the held-out ones: one pass over the split, [N, K]."""
        own = self.chosen[:TRAINING_ITEMS]
        items = np.concatenate([self.train.take(own), self.held_out])
        places = np.concatenate([own, np.full(len(self.held_out), -1)])
        return nearest_in_split(items, self.train, k=NEIGHBOURS, own=places)[0]

    @property
    def training_neighbours(self) -> Distances:
        """Distances of the training items that stand for all to the nearest others: [N, K]."""
        return self._neighbours[: len(self.chosen[:TRAINING_ITEMS])]

    def neighbours(self, items: Stored) -> Distances:
        """Distances of any items to the nearest training items: [N, K]."""
        return nearest_in_split(items, self.train, k=NEIGHBOURS)[0]

    def surroundings(self, distances_NK: Distances) -> Distances:
        """The mean distance to the nearest training items, [N]; never far below what is usual in the data."""
        means: Distances = np.maximum(distances_NK.mean(axis=1), self._scale_least)
        return means

    @cached_property
    def _scale_least(self) -> float:
        usual = float(np.median(self.training_neighbours.mean(axis=1)))
        return max(SCALE_LEAST * usual, float(np.finfo(np.float32).eps))

    def closeness(self, distances_NK: Distances) -> Distances:
        """[N], of items with these distances to training items."""
        near: Distances = distances_NK[:, 0] / self.surroundings(distances_NK)
        return near

    @cached_property
    def held_out_closeness(self) -> Distances:
        """What items never trained on have by chance, and where the data repeats itself: [N]."""
        return self.closeness(self._neighbours[len(self.chosen[:TRAINING_ITEMS]) :])

    @cached_property
    def bound(self) -> float:
        """The closeness of a copy, at most."""
        return lower_tail(without_twins(self.closeness(self.training_neighbours)), BY_CHANCE)


def without_twins(near_N: Distances) -> Distances:
    """The values without those of items that have a twin, in order.

    Where the data repeats itself, some values lie far below all others. The others begin at the largest value with less than
    BY_CHANCE of all between its half and itself.
    """
    ordered = np.sort(near_N)
    between = np.searchsorted(ordered, ordered, side="left") - np.searchsorted(ordered, ordered / 2, side="right")
    clear = ordered[between <= BY_CHANCE * len(ordered)]
    kept: Distances = ordered[ordered > clear[-1] / 2]
    return kept


def lower_tail(ordered_N: Distances, share: float) -> float:
    """The value that so few lie below, from how the k smallest fall off: x_k (n share / k)^g, g the mean of log(x_k / x_i) (Hill
    1975; Weissman 1978, 'Estimation of parameters and large quantiles based on the k largest observations').

    It is steadier than the few that are smaller, and reaches beyond the smallest where n is small.
    """
    n = len(ordered_N)
    k = min(n, max(TAIL_LEAST, math.ceil(TAIL * n)))
    if k < 2:
        return float(ordered_N.sum())
    fall = float(np.log(ordered_N[k - 1] / ordered_N[: k - 1]).mean())
    return float(ordered_N[k - 1] * (n * share / k) ** fall)
