"""Memorised: the share of samples that are as close to a training item as only 1 % of held-out items are. Honest: about 0.01.

Closeness is l2 to the nearest over the mean l2 to the 50 nearest training items (Carlini 2023, arXiv 2301.13188, section 5.1,
without its constant); the bound is what held-out items have by chance (the calibration of Meehan 2020, arXiv 2004.05675, and of
distance-to-closest-record tests).
"""

import numpy as np

from components.core.arrays import Stored
from components.core.metrics import Gate, Words
from components.core.protocols import ItemSplit
from components.core.records import Metric
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.neighbours import Distances, nearest_in_split
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words(
        "memorised",
        "Memorised",
        "samples as close to a training item as 1 % of held-out ones are",
        better="lower",
        share=True,
        order=60,
    ),
)
GATES = (Gate("memorised_max", "memorised", "max", default=0.1, takes="share", repeats=True, cause="memorised"),)
NEIGHBOURS = 50
QUANTILE = 0.01  # of held-out items fall below the bound by its making


def closeness(items: Stored, train: ItemSplit) -> Distances:
    """How near each item is to its nearest training item, measured against its surroundings: 0 is a copy, 1 no nearer.

    Blurred images are near to everything; dividing by the surroundings keeps them from looking copied.
    """
    distances, _ = nearest_in_split(items, train, k=NEIGHBOURS)
    relative: Distances = distances[:, 0] / np.maximum(distances.mean(axis=1), np.finfo(np.float64).tiny)
    return relative


@once
def bound(yardstick: Yardstick) -> float:
    """The closeness that 1 % of items never trained on have by chance."""
    held_out = yardstick.real.items[yardstick.real_places]
    return float(np.quantile(closeness(held_out, yardstick.train), QUANTILE, method="lower"))


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of all samples."""
    near = closeness(seen.items, seen.yardstick.train)
    return {"memorised": seen.boot.share(near <= bound(seen.yardstick), stream="generated")}
