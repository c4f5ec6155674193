"""Fidelity and coverage by nearest-neighbour balls in feature space: precision and recall (Kynkaanniemi 2019, arXiv 1904.06991),
density and coverage (Naeem 2020, arXiv 2002.09797), and how much of the last two was lost since the champion.

Intervals resample the items that are counted, with the balls as they are. M real items.
"""

import numpy as np

from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.manifold import COVERAGE_K, Hits, Manifold, hits
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
def real_manifold(yardstick: Yardstick) -> Manifold:
    """That of as many held-out items as there are samples, at most."""
    return Manifold.of(yardstick.real.features_MD[yardstick.real_places])


@once
def reached(seen: Evaluated) -> Hits:
    """Which items lie in whose balls, of as many samples as real items."""
    real = real_manifold(seen.yardstick)
    return hits(Manifold.of(seen.features[: len(real.points_ND)]), real)


def shares(found: Hits, boot: Bootstrap) -> dict[str, Metric]:
    """precision, recall, density and coverage."""
    return {
        "precision": boot.share(found.precise_N, stream="generated"),
        "recall": boot.share(found.recalled_M, stream="reference"),
        "density": boot.mean(found.inside_N / COVERAGE_K, stream="generated"),
        "coverage": boot.share(found.covered_M, stream="reference"),
    }


def lost(now: Hits, before: Hits, boot: Bootstrap) -> dict[str, Metric]:
    """recall_lost and coverage_lost: the share of real items that `before` reached less the share that `now` reaches."""
    pairs = {"recall_lost": (before.recalled_M, now.recalled_M), "coverage_lost": (before.covered_M, now.covered_M)}
    return {name: boot.mean(was.astype(np.float64) - ours, stream="reference") for name, (was, ours) in pairs.items()}


def compute(seen: Evaluated) -> dict[str, Metric]:
    """The four shares; what was lost, where there is a champion."""
    found = shares(reached(seen), seen.boot)
    return found if seen.champion is None else found | lost(reached(seen), reached(seen.champion), seen.boot)
