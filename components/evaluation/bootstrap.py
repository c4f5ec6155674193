"""Seeded bootstrap intervals (Efron 1979, 'Bootstrap methods: another look at the jackknife').

N items, R resamples. A resample is kept as counts_RN, how often each item was drawn, so that every metric that is a
weighted sum over items resamples as one matrix product, and two artifacts scored with the same seeds resample together.

Intervals are percentile intervals moved onto the measured value: low = value + quantile - mean of the resamples. For an
unbiased metric that changes nothing. A Frechet distance grows when items repeat, so that its plain percentile interval can
lie wholly above the value it belongs to; what is wanted of the resamples is their spread.
"""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from components.core.records import Metric

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint16]
Parts = npt.NDArray[np.bool_]
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: the seed, how many resamples, and the level of the interval.

    >>> share = Bootstrap(seed=0).share(np.arange(100) < 90, stream="generated")
    >>> share.value, bool(0.8 < share.low < 0.9 < share.high < 1)
    (0.9, True)
    """

    seed: int
    resamples: int = 200
    level: float = 0.95

    def counts(self, n: int, *, stream: str) -> Counts:
        """counts_RN. The same stream and n give the same counts, which is what pairs two artifacts."""
        return _counts(self.seed, self.resamples, n, stream)

    def parts(self, n: int, *, stream: str, kept: float) -> Parts:
        """This share of n items without repeats: bool [R, n]. The same stream, n and share give the same parts.

        For what cannot be a weighted sum over items, above all for nearest neighbours, of which items that repeat make nonsense
        (Abadie and Imbens 2008, 'On the failure of the bootstrap for matching estimators'). The spread over halves is that of
        whole sets: of a mean, (1/(n/2) - 1/n) s^2 = s^2 / n (the delete-d jackknife, Shao and Wu 1989, at d = n/2). Over larger
        parts it is (1 - kept) / kept of that.
        """
        return _parts(self.seed, self.resamples, n, stream, kept)

    def metric(
        self,
        value: float,
        draws_R: Floats,
        *,
        n: int,
        better: Better = "neither",
        least: float | None = None,
        most: float | None = None,
    ) -> Metric:
        """The value with its interval, kept within [least, most]."""
        tail = (1 - self.level) / 2
        low, high = (float(q) for q in value + np.quantile(draws_R, [tail, 1 - tail]) - draws_R.mean())
        low, high = (float(np.clip(end, least, most)) if (least, most) != (None, None) else end for end in (low, high))
        return Metric(value=value, low=min(low, value), high=max(high, value), n=n, better=better)

    def mean(self, values_N: npt.NDArray[np.generic], *, stream: str, better: Better = "neither") -> Metric:
        """The mean of the items with its interval."""
        values = values_N.astype(np.float64)
        return self.metric(float(values.mean()), self.means(values, stream=stream), n=len(values), better=better)

    def means(self, values_N: Floats, *, stream: str) -> Floats:
        """The mean in every resample: float64 [R], or [R, K] for values of shape [N, K]."""
        means: Floats = self.counts(len(values_N), stream=stream).astype(np.float64) @ values_N / len(values_N)
        return means

    def share(self, hits_N: npt.NDArray[np.bool_], *, stream: str, better: Better = "neither") -> Metric:
        """The share of items that are hit. When none or all are, resampling sees no spread: then the Wilson bound holds.

        Wilson 1927, 'Probable inference, the law of succession, and statistical inference'.
        """
        n = len(hits_N)
        metric = self.metric(
            float(hits_N.mean()), self.means(hits_N.astype(np.float64), stream=stream), n=n, better=better, least=0, most=1
        )
        if 0 < metric.value < 1:
            return metric
        z = NormalDist().inv_cdf((1 + self.level) / 2)
        bound = z**2 / (n + z**2)
        return metric.model_copy(update={"high": bound} if metric.value == 0 else {"low": 1 - bound})

    def dependent_share(self, draws_R: Floats, *, n: int, better: Better = "neither") -> Metric:
        """A share of n items that hang together, from its value and its resamples [1 + R].

        Wilson's interval at the number of independent items whose share would spread as much, p (1 - p) / var, as for a survey
        with a design effect (Kott and Carr 1997). Where none or all are hit nothing spreads, and n is taken.
        """
        p, variance = float(draws_R[0]), float(draws_R[1:].var())
        return self.wilson(p, n=n, size=p * (1 - p) / variance if 0 < p < 1 and variance > 0 else None, better=better)

    def wilson(self, p: float, *, n: int, size: float | None = None, better: Better = "neither") -> Metric:
        """A share of n independent items with Wilson's interval, or of n that tell no more than `size` independent ones do.

        Wilson 1927, 'Probable inference, the law of succession, and statistical inference'.
        """
        z, size = NormalDist().inv_cdf((1 + self.level) / 2), float(n) if size is None else size
        middle, reach = p + z**2 / (2 * size), z * math.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
        low, high = ((middle + side * reach) / (1 + z**2 / size) for side in (-1, 1))
        return Metric(value=p, low=min(max(low, 0.0), p), high=max(min(high, 1.0), p), n=n, better=better)


@lru_cache(maxsize=16)
def _counts(seed: int, resamples: int, n: int, stream: str) -> Counts:
    rng = np.random.default_rng([seed, zlib.crc32(stream.encode())])
    counts = np.empty((resamples, n), np.uint16)
    for row in counts:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    counts.setflags(write=False)
    return counts


@lru_cache(maxsize=16)
def _parts(seed: int, resamples: int, n: int, stream: str, kept: float) -> Parts:
    rng = np.random.default_rng([seed, zlib.crc32(stream.encode()), n])
    keep = np.zeros((resamples, n), bool)
    for row in keep:
        row[rng.permutation(n)[: int(n * kept)]] = True
    keep.setflags(write=False)
    return keep


def quantile_metric(values_N: Floats, q: float, boot: Bootstrap, *, stream: str, better: Better = "neither") -> Metric:
    """A quantile of the items (p95 of latencies) with its percentile interval, not recentred: a quantile is a real item."""
    ordered = np.sort(values_N)
    places = np.cumsum(boot.counts(len(ordered), stream=stream), axis=1) >= math.ceil(q * len(ordered))
    draws = ordered[places.argmax(axis=1)]
    value = float(ordered[math.ceil(q * len(ordered)) - 1])
    tail = (1 - boot.level) / 2
    low, high = (float(x) for x in np.quantile(draws, [tail, 1 - tail]))
    return Metric(value=value, low=min(low, value), high=max(high, value), n=len(values_N), better=better)
