"""Memorised: the share of samples that are copies of training items, less the share of held-out items that are.

What counts as a copy stands in evaluation/copies.py: shifted, mirrored and recoloured items too. Held-out items are copies
where the data repeats itself, and one in some 200 by chance; a model of the data may have as many (the calibration of Meehan
2020, arXiv 2004.05675, and of distance-to-closest-record tests). Both shares are counted against one bound, so the interval of
the difference is that of two proportions (evaluation/proportions.py).
"""

from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.copies import Copies
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.neighbours import Distances
from components.evaluation.proportions import Count, excess, share
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words(
        "memorised",
        "Memorised",
        "samples that copy a training item, shifted or recoloured too, less held-out ones that do",
        better="lower",
        share=True,
        order=60,
    ),
    Words("memorised_real", "Held-out copies", "held-out items as close to a training item", share=True, order=61),
)
GATES = (Gate("memorised_max", "memorised", "max", default=0.03, takes="share", repeats=True, cause="memorised"),)


@once
def copies(yardstick: Yardstick) -> Copies:
    """The training split, and as many held-out items as there are samples, at most."""
    return Copies(yardstick.train, yardstick.real.items[yardstick.real_places], yardstick.protocol.seed)


@once
def neighbours(seen: Evaluated) -> Distances:
    """Distances of the samples to their nearest training items: [N, K]."""
    return copies(seen.yardstick).neighbours(seen.items)


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of all samples, and of held-out items."""
    known, level = copies(seen.yardstick), seen.boot.level
    ours = Count.where(known.closeness(neighbours(seen)) <= known.bound)
    real = Count.where(known.held_out_closeness <= known.bound)
    return {"memorised": excess(ours, real, level=level), "memorised_real": share(real, level=level)}
