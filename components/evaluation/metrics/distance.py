"""The distance that a release is gated on: of samples to held-out items, without bias, and over the champion's.

Both sides are compared with the same reference items under the same kernel (evaluation/kernel.py), so that the chance they share
cancels; the ratio's interval ends where the errors that its gate may make are spent (evaluation/power.py).
docs/decisions/0003-gates.md.
"""

from math import sqrt
from statistics import NormalDist

from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.chosen import choose
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.kernel import KERNEL_ITEMS, Distance, Kernel, Real, ratio_interval
from components.evaluation.power import FIRST, Spread, end_scores, foretold
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words(
        "distance_ratio",
        "Distance over the champion's",
        "same reference and seeds; the champion's counts as no less than the floor",
        better="lower",
        order=9,
    ),
    Words(
        "distance", "Distance", "unbiased, on this dataset's own features; about 0 for the data itself", better="lower", order=10
    ),
    Words(
        "ratio_told",
        "Ratio told apart",
        "a successor so many times as far fails 4 times in 5, by this margin; to: where its faults are others than this one's",
        better="lower",
        order=903,
    ),
    Words(
        "equals_margin",
        "Margin that equals pass",
        "a successor as good as this one passes it 19 times in 20; to: where its faults are others than this one's",
        better="lower",
        order=904,
    ),
    Words("error_by_real", "Distance's error by the reference", "standard error as a share of the distance", order=906),
    Words("error_by_samples", "Distance's error by the samples", "likewise, at the last look", order=907),
    Words("distance_floor", "Distance floor", "what is nearer than this is not told from the data", order=905),
)
GATES = (Gate("distance_ratio_max", "distance_ratio", "max", default=1.25, takes="positive", relative=True, worse_beyond=1.0),)


@once
def real_side(yardstick: Yardstick) -> Real:
    """The reference under the kernel of this dataset."""
    real = yardstick.real
    training = choose(yardstick.train, KERNEL_ITEMS, seed=yardstick.protocol.seed)
    return Real.of(Kernel.of(real.extractor.features(training)), real.features_MD)


@once
def distance(seen: Evaluated) -> Distance:
    return Distance.of(seen.features, real_side(seen.yardstick))


def over_champion(seen: Evaluated, champion: Evaluated) -> Metric:
    """The ratio, with the ends that this look may judge by."""
    yardstick = seen.yardstick
    z = end_scores(look=yardstick.look, looks=yardstick.looks)
    value, low, high = ratio_interval(distance(seen), distance(champion), floor=real_side(yardstick).floor, z=z)
    return Metric(value=value, low=low, high=high, n=len(seen.items))


def compute(seen: Evaluated) -> dict[str, Metric]:
    """The distance, what its gate will tell of a successor, and the ratio to the champion's where there is one."""
    found, floor, yardstick, n = distance(seen), real_side(seen.yardstick).floor, seen.yardstick, len(seen.items)
    reach = NormalDist().inv_cdf((1 + seen.boot.level) / 2) * sqrt(found.covariance(found))
    metrics = {
        "distance": Metric(value=found.value, low=found.value - reach, high=found.value + reach, n=n),
        "distance_floor": Metric(value=floor, low=floor, high=floor, n=len(found.by_real_M)),
    }
    spread = Spread.of(found, max(found.value, floor), samples=yardstick.samples_last)
    metrics |= foretold(
        spread,
        margin=yardstick.margin(FIRST),
        looks=yardstick.looks,
        reference=len(found.by_real_M),
        samples=yardstick.samples_last,
    )
    return metrics if seen.champion is None else metrics | {"distance_ratio": over_champion(seen, seen.champion)}
