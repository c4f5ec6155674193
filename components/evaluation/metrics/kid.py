"""KID: the unbiased squared MMD between features of samples and of held-out items (Binkowski 2018, arXiv 1801.01401)."""

import numpy as np
import numpy.typing as npt

from components.core.metrics import Words
from components.core.records import Metric
from components.evaluation.bootstrap import Bootstrap, Counts, Floats
from components.evaluation.distances import pair_means
from components.evaluation.evaluated import Evaluated

WORDS = (Words("kid", "KID", "unbiased kernel distance; about 0 for the data itself", better="lower", order=20),)
KID_BLOCK = 1000  # items a side in one kernel matrix: 8 MB


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of the samples and the reference."""
    return {"kid": kid(seen.features, seen.yardstick.real.features_MD, seen.boot)}


def kid(features_ND: npt.NDArray[np.floating], reference_MD: npt.NDArray[np.floating], boot: Bootstrap) -> Metric:
    """Kernel Inception distance's estimator (Binkowski 2018, arXiv 1801.01401) on these features, with its interval.

    The unbiased squared MMD with k(x, y) = (x.y / D + 1)^3, averaged over disjoint subsets of at most KID_BLOCK items.
    A resample weighs pairs of *different* items, so it is a U-statistic too and repeats do not bias it.
    """
    n, m = len(features_ND), len(reference_MD)
    blocks = max(1, min(-(-max(n, m) // KID_BLOCK), min(n, m) // 2))
    values = np.zeros(1 + boot.resamples)
    w_x, w_y = (_with_itself(boot.counts(size, stream=stream)) for size, stream in ((n, "generated"), (m, "reference")))
    for block in range(blocks):
        x, y = (part[block::blocks].astype(np.float64) for part in (features_ND, reference_MD))
        values += _mmd2(x, y, w_x[:, block::blocks], w_y[:, block::blocks]) / blocks
    return boot.metric(float(values[0]), values[1:], n=n)


def _with_itself(counts_RN: Counts) -> Floats:
    return np.vstack([np.ones((1, counts_RN.shape[1])), counts_RN])


def _mmd2(x: Floats, y: Floats, w_x: Floats, w_y: Floats) -> Floats:
    cross = ((w_x @ _kernel(x, y)) * w_y).sum(axis=1) / (w_x.sum(axis=1) * w_y.sum(axis=1))
    mmd2: Floats = pair_means(_kernel(x, x), w_x) + pair_means(_kernel(y, y), w_y) - 2 * cross
    return mmd2


def _kernel(x: Floats, y: Floats) -> Floats:
    kernel: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel
