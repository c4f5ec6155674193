"""Mode collapse and copying: pairwise diversity, duplicates, memorisation, and what a classifier sees.

N generated, M real, K classes.
"""

import numpy as np
import numpy.typing as npt

from components.core.protocols import Images, ImageSplit
from components.core.records import Metric
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.distances import pair_means
from components.evaluation.neighbours import Distances, Vectors, nearest, nearest_in_split, squared_distances

PAIRS_MAX = 1000  # items whose pairs are averaged
DUPLICATE_QUANTILE = 0.01  # of real nearest-neighbour distances
DUPLICATE_FACTOR = 0.5  # two images twice as close as the closest 1 % of real pairs are the same image
COPY_NEIGHBOURS = 50
COPY_QUANTILE = 0.01  # of held-out images fall below the bound by its making
CONFIDENT = 0.9


def pairwise_diversity(features_ND: npt.NDArray[np.floating], reference_MD: npt.NDArray[np.floating], boot: Bootstrap) -> Metric:
    """Mean distance between two generated items over that between two real ones: 1 is as diverse as reality, 0 one image."""
    ours, real = (
        _pair_distances(features, boot, stream) for features, stream in ((features_ND, "generated"), (reference_MD, "reference"))
    )
    ratio = ours / np.maximum(real, np.finfo(np.float64).tiny)
    return boot.metric(float(ratio[0]), ratio[1:], n=len(features_ND), least=0)


def _pair_distances(features: npt.NDArray[np.floating], boot: Bootstrap, stream: str) -> Floats:
    x = features[:PAIRS_MAX].astype(np.float64)
    table = np.sqrt(squared_distances(x, x)).astype(np.float64)
    counts = boot.counts(len(features), stream=stream)[:, : len(x)]
    return pair_means(table, np.vstack([np.ones((1, len(x))), counts]))


def duplicate_bound(real_MD: Vectors) -> float:
    """The distance below which two items count as the same, among the vectors of real ones: half of what separates the closest 1
    % of real pairs."""
    return DUPLICATE_FACTOR * float(np.quantile(_nearest_other(real_MD), DUPLICATE_QUANTILE, method="lower"))


def duplicates(generated_ND: Vectors, *, bound: float, boot: Bootstrap) -> Metric:
    """Share of generated items that have a twin among the others (after the birthday test of Arora 2017, arXiv 1706.08224).

    `bound` comes from as many real images, because nearest neighbours come closer as there are more of them.
    """
    return boot.share(_nearest_other(generated_ND) <= bound, stream="generated", better="lower")


def _nearest_other(vectors_ND: Vectors) -> Distances:
    return nearest(vectors_ND, [vectors_ND], k=1, skip_self=True)[0][:, 0]


def closeness(images: Images, train: ImageSplit) -> Distances:
    """How near each image is to its nearest training image, measured against its surroundings: 0 is a copy, 1 no nearer.

    l2 to the nearest over the mean l2 to the 50 nearest training images (Carlini 2023, arXiv 2301.13188, section 5.1,
    without its constant). Blurred images are near to everything; dividing by the surroundings keeps them from looking copied.
    """
    distances, _ = nearest_in_split(images, train, k=COPY_NEIGHBOURS)
    relative: Distances = distances[:, 0] / np.maximum(distances.mean(axis=1), np.finfo(np.float64).tiny)
    return relative


def copy_bound(held_out: Distances) -> float:
    """The closeness that 1 % of images never trained on have by chance (the held-out calibration of Meehan 2020,
    arXiv 2004.05675, and of distance-to-closest-record tests)."""
    return float(np.quantile(held_out, COPY_QUANTILE, method="lower"))


def memorised(closeness_N: Distances, *, bound: float, boot: Bootstrap) -> Metric:
    """Share of generated items that are as close to a training image as only 1 % of held-out images are. Honest: about 0.01."""
    return boot.share(closeness_N <= bound, stream="generated", better="lower")


def classifier_metrics(
    probabilities_NK: npt.NDArray[np.floating], boot: Bootstrap, *, labels_N: npt.NDArray[np.int64] | None = None
) -> dict[str, Metric]:
    """confident_share (> 0.9 sure), class_share_min (of the rarest class) and, when classes were asked for, label_agreement."""
    guesses = probabilities_NK.argmax(axis=1)
    one_hot = np.eye(probabilities_NK.shape[1])[guesses]
    shares = boot.means(one_hot, stream="generated").min(axis=1)
    found = {
        "confident_share": boot.share(probabilities_NK.max(axis=1) > CONFIDENT, stream="generated", better="higher"),
        "class_share_min": boot.metric(
            float(one_hot.mean(axis=0).min()), shares, n=len(guesses), better="higher", least=0, most=1
        ),
    }
    if labels_N is not None:
        found["label_agreement"] = boot.share(guesses == labels_N, stream="generated", better="higher")
    return found
