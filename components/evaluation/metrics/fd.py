"""FD-local: the Frechet distance between the features of samples and of held-out items, told beside the gated one (distance.py).

The features are those of a network trained on the data itself, so it is never called FID (Heusel 2017, arXiv 1706.08500).
The distance of noise is the upper mark, that of training items the lower one. It is biased upwards by an amount that depends on
the counts, so only the gate against noise, which lies far above all bias, is on it.
"""

from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.bootstrap import Floats
from components.evaluation.chosen import noise_items
from components.evaluation.distances import ratio
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words("fd", "FD-local", "Fréchet distance of this dataset's own features; never an FID", better="lower", order=11),
    Words("fd_noise_ratio", "FD-local over that of noise", "0 is the data, 1 is noise", better="lower", order=12),
    Words("fd_noise", "FD-local of noise", "the upper mark", order=900),
    Words(
        "fd_real",
        "FD-local of training items",
        "the lower mark: what real items get, as many as there are samples or training items",
        order=901,
    ),
)
GATES = (Gate("fd_noise_ratio_max", "fd_noise_ratio", "max", default=0.5, takes="share"),)


@once
def distances(seen: Evaluated) -> Floats:
    """The distance of the samples, and in every resample: [1 + R]."""
    return seen.yardstick.real.distances(seen.features)


@once
def of_noise(yardstick: Yardstick) -> Floats:
    """That of as many items of noise: [1 + R]."""
    protocol = yardstick.protocol
    noise = noise_items(protocol.samples, yardstick.dataset.item, seed=protocol.seed)
    return yardstick.real.distances(yardstick.real.extractor.features(noise))


@once
def of_training(yardstick: Yardstick) -> Floats:
    """That of as many training items: [1 + R]."""
    features = yardstick.real.extractor.features(yardstick.training_items)
    return yardstick.real.distances(features, stream="train")


def compute(seen: Evaluated) -> dict[str, Metric]:
    """The distance and both marks."""
    yardstick, boot, n = seen.yardstick, seen.boot, len(seen.items)
    fd, noise, real = distances(seen), of_noise(yardstick), of_training(yardstick)
    return {
        "fd": boot.metric(float(fd[0]), fd[1:], n=n, least=0),
        "fd_noise_ratio": ratio(fd, noise, boot, n=n),
        "fd_noise": boot.metric(float(noise[0]), noise[1:], n=yardstick.protocol.samples, least=0),
        "fd_real": boot.metric(float(real[0]), real[1:], n=len(yardstick.training_items), least=0),
    }
