"""Shares and differences of two shares, with intervals that need no resampling.

A share: Clopper and Pearson 1934, 'The use of confidence or fiducial limits illustrated in the case of the binomial'; it covers
at least as often as it says. A difference: each end is as far from the value as the ends of both shares together, by Pythagoras
(Newcombe 1998, 'Interval estimation for the difference between independent proportions', method 10, with these ends in place of
Wilson's).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from components.core.records import Metric


class Count(NamedTuple):
    """So many of so many."""

    hits: int
    of: int

    @classmethod
    def where(cls, hits_N: npt.NDArray[np.bool_]) -> "Count":
        """Of the items that are hit."""
        return cls(int(hits_N.sum()), len(hits_N))

    @property
    def share(self) -> float:
        return self.hits / self.of


def share(count: Count, *, level: float) -> Metric:
    """The share with its exact interval.

    >>> found = share(Count(0, 100), level=0.95)
    >>> found.value, found.low, round(found.high, 4)
    (0.0, 0.0, 0.0362)
    """
    tail, (hits, n) = (1 - level) / 2, count
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return Metric(value=count.share, low=low, high=high, n=n)


def excess(ours: Count, theirs: Count, *, level: float) -> Metric:
    """How much larger our share is than theirs, and no less than 0; `n` is ours.

    >>> found = excess(Count(60, 1000), Count(3, 300), level=0.95)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.05, 0.027, 0.068)
    """
    a, b = share(ours, level=level), share(theirs, level=level)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Metric(value=max(0.0, value), low=max(0.0, low), high=max(0.0, high), n=ours.of)
