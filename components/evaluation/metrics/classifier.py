"""What a classifier trained on the real items sees in the samples. Without classes in the data there is none, and none apply.

N samples, K classes.
"""

import numpy as np
import numpy.typing as npt

from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words("confident_share", "Sure", "samples the classifier is more than 0.9 sure of", better="higher", share=True, order=70),
    Words("confident_share_real", "Sure, real items", "what held-out items get", share=True, order=71),
    Words("class_share_min", "Rarest class", "its share of the samples", better="higher", share=True, order=72),
    Words(
        "class_ratio",
        "Rarest class over its share",
        "the share of samples of the class that is lacking most, over its share of the data; 0 is a lost one",
        better="higher",
        order=72,
    ),
    Words(
        "label_agreement", "Label agreement", "samples that look like the class asked for", better="higher", share=True, order=73
    ),
)
GATES = (Gate("class_ratio_min", "class_ratio", "min", default=0.25, takes="share", optional=True),)
CONFIDENT = 0.9
EXPECTED = 20  # samples of a class, if it had its share: of rarer ones chance alone may leave none


@once
def sure_of_real(yardstick: Yardstick) -> Metric | None:
    """The mark: the share of held-out items that it is sure of."""
    probabilities_MK = yardstick.real.extractor.probabilities(yardstick.real.items)
    return None if probabilities_MK is None else _sure(probabilities_MK, yardstick.real.boot)


def compute(seen: Evaluated) -> dict[str, Metric]:
    """The shares of samples that it is sure of, of the rarest class and, where classes were asked for, of those that obey."""
    probabilities_NK, boot, mark = seen.probabilities, seen.boot, sure_of_real(seen.yardstick)
    if probabilities_NK is None or mark is None:
        return {}
    guesses_N = probabilities_NK.argmax(axis=1)
    one_hot_NK = np.eye(probabilities_NK.shape[1])[guesses_N]
    shares_RK = np.vstack([one_hot_NK.mean(axis=0), boot.means(one_hot_NK, stream="generated")])
    found = {
        "confident_share": _sure(probabilities_NK, boot),
        "confident_share_real": mark,
        "class_share_min": boot.dependent_share(shares_RK.min(axis=1), n=len(guesses_N)),
    }
    if (ratio := _class_ratio(seen, shares_RK)) is not None:
        found["class_ratio"] = ratio
    if seen.drawn.labels_N is not None:
        found["label_agreement"] = boot.share(guesses_N == seen.drawn.labels_N, stream="generated")
    return found


def _sure(probabilities_NK: npt.NDArray[np.floating], boot: Bootstrap) -> Metric:
    return boot.share(probabilities_NK.max(axis=1) > CONFIDENT, stream="generated")


def _class_ratio(seen: Evaluated, shares_RK: Floats) -> Metric | None:
    """Over the held-out items' shares, as they are labelled; None where no class is frequent enough."""
    labels_M, n = seen.yardstick.real.labels_M, len(seen.items)
    if labels_M is None:
        return None
    one_hot_MK = np.eye(shares_RK.shape[1])[labels_M]
    often_K = one_hot_MK.mean(axis=0) * n >= EXPECTED
    if not often_K.any():
        return None
    real_RK = np.vstack([one_hot_MK.mean(axis=0), seen.boot.means(one_hot_MK, stream="reference")])[:, often_K]
    ratios_R = (shares_RK[:, often_K] / np.maximum(real_RK, 1 / len(labels_M))).min(axis=1)
    return seen.boot.metric(float(ratios_R[0]), ratios_R[1:], n=n, least=0)
