"""Diversity: how far apart two samples are, on average, over how far apart two real items are. A collapsed model has little.

On either side at most PAIRS_MAX items are drawn: the first ones of a split that goes class by class or source by source are too
alike. N items, D features, R resamples.
"""

import numpy as np
import numpy.typing as npt

from components.core.metrics import Words
from components.core.records import Metric
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.chosen import places
from components.evaluation.distances import pair_means
from components.evaluation.evaluated import Evaluated
from components.evaluation.neighbours import squared_distances

WORDS = (
    Words("diversity", "Diversity", "mean distance between samples over that between real items; 1 is as diverse", order=40),
)
PAIRS_MAX = 1000  # items drawn, whose pairs are averaged


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of the samples and the reference."""
    return {"diversity": pairwise_diversity(seen.features, seen.yardstick.real.features_MD, seen.boot)}


def pairwise_diversity(features_ND: npt.NDArray[np.floating], reference_MD: npt.NDArray[np.floating], boot: Bootstrap) -> Metric:
    """Mean distance between two generated items over that between two real ones: 1 is as diverse as reality, 0 one image."""
    ours, real = (
        _pair_distances(features, boot, stream) for features, stream in ((features_ND, "generated"), (reference_MD, "reference"))
    )
    ratio = ours / np.maximum(real, np.finfo(np.float64).tiny)
    return boot.metric(float(ratio[0]), ratio[1:], n=len(features_ND), least=0)


def _pair_distances(features_ND: npt.NDArray[np.floating], boot: Bootstrap, stream: str) -> Floats:
    """The mean distance of two items, and in every resample: [1 + R]."""
    drawn = places(len(features_ND), PAIRS_MAX, seed=boot.seed)
    x = features_ND[drawn].astype(np.float64)
    table = np.sqrt(squared_distances(x, x)).astype(np.float64)
    counts = boot.counts(len(features_ND), stream=stream)[:, drawn]
    return pair_means(table, np.vstack([np.ones((1, len(x))), counts]))
