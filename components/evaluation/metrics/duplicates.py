"""Duplicates: the share of samples with a twin among the samples (after the birthday test of Arora 2017, arXiv 1706.08224).

What counts as a twin comes from as many real items, because nearest neighbours come closer as there are more of them.
"""

import numpy as np

from components.core.arrays import Stored
from components.core.metrics import Gate, Words
from components.core.modality import find_modality
from components.core.records import Metric
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.neighbours import Distances, nearest
from components.evaluation.yardstick import Yardstick

WORDS = (Words("duplicates", "Duplicates", "samples with a twin among the samples", better="lower", share=True, order=50),)
GATES = (Gate("duplicates_max", "duplicates", "max", default=0.05, takes="share", repeats=True),)
QUANTILE = 0.01  # of real nearest-neighbour distances
FACTOR = 0.5  # two items twice as close as the closest 1 % of real pairs are the same item


@once
def bound(yardstick: Yardstick) -> float:
    """The distance below which two items count as the same: half of what separates the closest 1 % of real pairs."""
    return FACTOR * float(np.quantile(_nearest_other(yardstick.training_items, yardstick), QUANTILE, method="lower"))


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of as many samples as there were real items."""
    items = seen.items[: len(seen.yardstick.training_items)]
    return {"duplicates": seen.boot.share(_nearest_other(items, seen.yardstick) <= bound(seen.yardstick), stream="generated")}


def _nearest_other(items: Stored, yardstick: Yardstick) -> Distances:
    vectors_ND = find_modality(yardstick.train.item.modality).vectors(items)
    return nearest(vectors_ND, [vectors_ND], k=1, skip_self=True)[0][:, 0]
