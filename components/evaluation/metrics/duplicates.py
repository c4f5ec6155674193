"""Duplicates: the share of samples with a twin among the samples, less that of training items among themselves (after the
birthday test of Arora 2017, arXiv 1706.08224).

A twin is twice as close as what counts as a copy of a training item (evaluation/copies.py): shifted, mirrored and recoloured
twins too. Half of the items are looked for among the other half, as many samples as training items: each has a twin there or
not by itself, where twins among all come in pairs, and the interval of the difference is that of two proportions
(evaluation/proportions.py).
"""

from components.core.arrays import Stored
from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.copies import TRAINING_ITEMS
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.likeness import Held, nearest_in_split
from components.evaluation.metrics.memorised import copies, neighbours
from components.evaluation.neighbours import Distances
from components.evaluation.proportions import Count, excess, share
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words(
        "duplicates",
        "Duplicates",
        "samples with a twin among the samples, less training items with one among themselves",
        better="lower",
        share=True,
        order=50,
    ),
    Words("duplicates_real", "Training twins", "training items with a twin among as many", share=True, order=51),
)
GATES = (Gate("duplicates_max", "duplicates", "max", default=0.05, takes="share", repeats=True),)
FACTOR = 0.5  # of the bound on copies: many samples of a smooth family lie nearer to each other than any two real items


@once
def real_twins(yardstick: Yardstick) -> Count:
    """Of training items."""
    known = copies(yardstick)
    return _twins(yardstick.train.take(known.chosen[: 2 * _half(yardstick)]), known.training_neighbours, yardstick)


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of as many samples as training items."""
    ours, real, level = _twins(seen.items, neighbours(seen), seen.yardstick), real_twins(seen.yardstick), seen.boot.level
    return {"duplicates": excess(ours, real, level=level), "duplicates_real": share(real, level=level)}


def _half(yardstick: Yardstick) -> int:
    return min(yardstick.protocol.samples // 2, len(yardstick.train) // 2, TRAINING_ITEMS)


def _twins(items: Stored, distances_NK: Distances, yardstick: Yardstick) -> Count:
    """How many of the first half have a twin in the second, given their distances to training items."""
    known, n = copies(yardstick), _half(yardstick)
    nearest, _ = nearest_in_split(items[:n], Held(items[n : 2 * n], yardstick.train.item), k=1)
    return Count.where(nearest[:, 0] <= FACTOR * known.bound * known.surroundings(distances_NK[:n]))
