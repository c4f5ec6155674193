"""Fidelity and coverage by nearest-neighbour balls in feature space: precision and recall (Kynkaanniemi 2019, arXiv 1904.06991),
density and coverage (Naeem 2020, arXiv 2002.09797), and how much of the last two was lost since the champion.

Intervals are of the expected figure over new draws of both the samples and the real items, as many as were measured: they come
from random parts of both, with the balls of each part (balls.py). R resamples.
"""

from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.balls import Balls, Reached, reached
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words("precision", "Precision", "samples within the real manifold", better="higher", share=True, order=30),
    Words("recall", "Recall", "real items within the samples' manifold", better="higher", share=True, order=31),
    Words("density", "Density", "real neighbourhoods a sample lies in; 1 for the data itself", better="higher", order=32),
    Words("coverage", "Coverage", "real items with a sample near them", better="higher", share=True, order=33),
    Words("coverage_lost", "Coverage lost", "the champion's less this one's, on the same real items", better="lower", order=36),
    Words("recall_lost", "Recall lost", "the champion's less this one's, on the same real items", better="lower", order=37),
)
GATES = (
    Gate("coverage_min", "coverage", "min", default=0.3, takes="share", repeats=True),
    Gate("recall_min", "recall", "min", default=0.05, takes="share", repeats=True, order=34),
    Gate("coverage_lost_max", "coverage_lost", "max", default=None, takes="share", relative=True, student=0.1),
    Gate("recall_lost_max", "recall_lost", "max", default=None, takes="share", relative=True, student=0.1),
)


@once
def real_balls(yardstick: Yardstick) -> Balls:
    """Those of as many held-out items as there are samples, at most."""
    return Balls.of(yardstick.real.features_MD[yardstick.real_places], yardstick.real.boot, stream="reference")


@once
def of_samples(seen: Evaluated) -> Reached:
    """Which items lie in whose balls, of as many samples as real items."""
    real = real_balls(seen.yardstick)
    features_ND = seen.features[: len(real.manifold.points_ND)]
    return reached(Balls.of(features_ND, seen.boot, stream="generated"), real)


def shares(found: Reached, boot: Bootstrap, *, n: int) -> dict[str, Metric]:
    """precision, recall, density and coverage, of n items on either side."""
    return {
        "precision": boot.dependent_share(found.precision, n=n),
        "recall": boot.dependent_share(found.recall, n=n),
        "density": boot.metric(float(found.density[0]), found.density[1:], n=n, least=0),
        "coverage": boot.dependent_share(found.coverage, n=n),
    }


def lost(now: Reached, before: Reached, boot: Bootstrap, *, n: int) -> dict[str, Metric]:
    """recall_lost and coverage_lost: the share of real items that `before` reached less the share that `now` reaches.

    Both are resampled together: the same parts of the real items, and of the samples, which come from the same seeds.
    """
    gone = {"recall_lost": before.recall - now.recall, "coverage_lost": before.coverage - now.coverage}
    return {name: boot.metric(float(draws_R[0]), draws_R[1:], n=n) for name, draws_R in gone.items()}


def compute(seen: Evaluated) -> dict[str, Metric]:
    """The four shares; what was lost, where there is a champion."""
    n = len(real_balls(seen.yardstick).manifold.points_ND)
    found = shares(of_samples(seen), seen.boot, n=n)
    return found if seen.champion is None else found | lost(of_samples(seen), of_samples(seen.champion), seen.boot, n=n)
