"""Who goes on: successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943), at shares where a training reads its quality.

Every candidate has the same budget. At each rung the better half goes on, and the last one to its end. Only what had the same
share of it is compared (share.py). None of the libraries for it (optuna's pruners, Ray Tune) is in the environment, and what they
add to these lines is a store of their own.
"""

import math
from collections.abc import Sequence

from components.pipeline.bakeoff.rung import Rung
from components.training.schedule import READINGS

RUNGS = tuple(share for share in READINGS if share <= 0.5)  # of the work
TOP_MAX = 2 ** len(RUNGS)


def rungs(candidates: int) -> tuple[float, ...]:
    """The shares of the budget at which so many candidates are halved until one is left.

    >>> rungs(2), rungs(3), rungs(8)
    ((0.5,), (0.25, 0.5), (0.1, 0.25, 0.5))
    """
    return RUNGS[len(RUNGS) - math.ceil(math.log2(candidates)) :] if candidates > 1 else ()


def order(found: Sequence[Rung], *, metric: str, latency_ms: float | None) -> list[int]:
    """The places of what was measured, the best first. What cannot be served, or is too slow, is worse than all else; then what
    has collapsed; of what is alike the earlier one is better, as the policy put it first."""

    def worth(at: int) -> tuple[object, ...]:
        each = found[at]
        figure, latency = each.scorecard.metrics.get(metric), each.latency
        slow = latency_ms is not None and latency is not None and latency.value > latency_ms
        value = math.inf if figure is None else figure.value if figure.better == "lower" else -figure.value
        return bool(each.refused) or slow, bool(each.checkpoint.collapse), value, at

    return sorted(range(len(found)), key=worth)


def left_of(compared: int, *, last: bool) -> int:
    """How many of those that are compared go on: the better half, and from the last rung one.

    >>> left_of(5, last=False), left_of(5, last=True)
    (3, 1)
    """
    return 1 if last else math.ceil(compared / 2)
