"""The distance on features that only the proof sees (evaluation/unseen.py), and the ratio to the champion's that a release is
gated on besides: what was tuned on the features of the dataset does not pass by that alone.

The estimator, the floor, the interval and the looks are those of distance.py. docs/decisions/0051-two-representations.md.
"""

from math import sqrt
from statistics import NormalDist

from components.core.metrics import Gate, Words
from components.core.records import Metric
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.kernel import Distance, ratio_interval
from components.evaluation.power import SECOND, Spread, end_scores, foretold

WORDS = (
    Words(
        "heldout_ratio",
        "Unseen distance over the champion's",
        "on features that only the proof sees; the champion's counts as no less than the floor",
        better="lower",
        order=9,
        proof_only=True,
    ),
    Words(
        "heldout_distance",
        "Unseen distance",
        "unbiased, on features that only the proof sees; about 0 for the data itself",
        better="lower",
        order=13,
        proof_only=True,
    ),
    Words(
        "heldout_noise_ratio",
        "Unseen distance over that of noise",
        "0 is the data, 1 is noise",
        better="lower",
        order=14,
        proof_only=True,
    ),
    Words(
        "heldout_ratio_told",
        "Ratio told apart, unseen",
        "a successor so many times as far fails 4 times in 5, by this margin; to: where its faults are others than this one's",
        better="lower",
        order=908,
        proof_only=True,
    ),
    Words(
        "heldout_equals_margin",
        "Margin that equals pass, unseen",
        "a successor as good as this one passes it 19 times in 20; to: where its faults are others than this one's",
        better="lower",
        order=909,
        proof_only=True,
    ),
    Words(
        "heldout_floor", "Unseen distance floor", "what is nearer than this is not told from the data", order=910, proof_only=True
    ),
    Words(
        "heldout_error_by_real",
        "Unseen distance's error by the reference",
        "standard error as a share of it",
        order=911,
        proof_only=True,
    ),
    Words(
        "heldout_error_by_samples",
        "Unseen distance's error by the samples",
        "likewise, at the last look",
        order=912,
        proof_only=True,
    ),
)
# Optional, as what is no proof has neither; every proof is given the features (pipeline/proof.py).
GATES = (
    Gate(
        "heldout_ratio_max",
        "heldout_ratio",
        "max",
        default=1.25,
        takes="positive",
        optional=True,
        relative=True,
        worse_beyond=1.0,
    ),
    Gate("heldout_noise_ratio_max", "heldout_noise_ratio", "max", default=0.5, takes="share", optional=True),
)


@once
def distance(seen: Evaluated) -> Distance:
    assert seen.yardstick.unseen is not None, "it is asked of proofs alone"
    return seen.yardstick.unseen.distance(seen.drawn)


def over_champion(seen: Evaluated, champion: Evaluated) -> Metric:
    """The ratio, with the ends that this look may judge by."""
    yardstick = seen.yardstick
    assert yardstick.unseen is not None, "it is asked of proofs alone"
    z, ours = end_scores(look=yardstick.look, looks=yardstick.looks), distance(seen)
    value, low, high = ratio_interval(ours, distance(champion), floor=yardstick.unseen.floor, z=z)
    return Metric(value=value, low=low, high=high, n=len(ours.by_sample_N))


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of a proof: the distance, what its gate will tell of a successor, and the ratio to the champion's where there is one."""
    side = seen.yardstick.unseen
    if side is None:
        return {}
    found, yardstick = distance(seen), seen.yardstick
    n, m = len(found.by_sample_N), len(found.by_real_M)
    reach = NormalDist().inv_cdf((1 + seen.boot.level) / 2) * sqrt(found.covariance(found))
    ends = (found.value, found.value - reach, found.value + reach)
    value, low, high = (max(0.0, each) / side.noise for each in ends)
    metrics = {
        "heldout_distance": Metric(value=ends[0], low=ends[1], high=ends[2], n=n),
        "heldout_noise_ratio": Metric(value=value, low=low, high=high, n=n),
        "heldout_floor": Metric(value=side.floor, low=side.floor, high=side.floor, n=m),
    }
    last = min(yardstick.samples_last, side.unseen.samples_most or yardstick.samples_last)
    spread = Spread.of(found, max(found.value, side.floor), samples=last)
    metrics |= foretold(
        spread, prefix="heldout_", margin=yardstick.margin(SECOND), looks=yardstick.looks, reference=m, samples=last
    )
    return metrics if seen.champion is None else metrics | {"heldout_ratio": over_champion(seen, seen.champion)}
