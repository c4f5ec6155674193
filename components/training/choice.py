"""Which weights of a training are kept: the last ones that are not worse than the best by more than chance.

    d = FD(now) - FD(best),   s = the standard error of d,   worse: d > 2 s

The lowest of several noisy readings is low by luck as well (the winner's curse), and an early one that is as good as the last has
learnt less. So of readings that chance may have put in this order the last counts (after the rule of one standard error, Breiman
et al. 1984, 'Classification and regression trees', section 3.4.3). What has collapsed is worse than all that has not.
"""

from collections.abc import Sequence

from components.core.records import Reading

ERRORS = 2.0  # of the difference, that one reading must be above the best


def is_better(now: Reading, best: Reading) -> bool:
    """Whether this reading is lower than the best so far, by however little."""
    return (bool(now.collapse), now.distance) < (bool(best.collapse), best.distance)


def is_worse(now: Reading, best: Reading) -> bool:
    """Whether this reading is above the best so far by more than the noise of their difference."""
    if bool(now.collapse) != bool(best.collapse):
        return bool(now.collapse)
    return now.distance - best.distance > ERRORS * now.noise_beside(best)


def kept(readings: Sequence[Reading]) -> int:
    """Which of a training's readings, in order, is the one whose weights are kept."""
    best, chosen = readings[0], 0
    for number, each in enumerate(readings):
        chosen = chosen if is_worse(each, best) else number
        best = each if is_better(each, best) else best
    return chosen
