"""Which weights of a training are kept: the last ones that are not worse than the best by more than chance.

    d = FD(now) - FD(best),   s = the standard error of d,   worse: d > 2 s

The lowest of several noisy readings is low by luck as well (the winner's curse), and an early one that is as good as the last has
learnt less. So of readings that chance may have put in this order the last counts (after the rule of one standard error, Breiman
et al. 1984, 'Classification and regression trees', section 3.4.3). What has collapsed is worse than all that has not.

The distance is one to training items, so it falls on while a few are learnt by heart. Where a training began with a base, the
losses of held-out items tell that (tuning.py): a reading whose mean loss is above the lowest by more than chance, and by more
than a quarter of what it had fallen, is worse, too.
"""

from collections.abc import Sequence

from components.core.records import Reading
from components.core.records.checkpoint import ERRORS, is_by_heart, rise


def is_better(now: Reading, best: Reading) -> bool:
    """Whether this reading is lower than the best so far, by however little."""
    return (bool(now.collapse), now.distance) < (bool(best.collapse), best.distance)


def is_worse(now: Reading, best: Reading) -> bool:
    """Whether this reading is above the best so far by more than the noise of their difference."""
    if bool(now.collapse) != bool(best.collapse):
        return bool(now.collapse)
    return now.distance - best.distance > ERRORS * now.noise_beside(best)


def lowest_of(now: Reading, lowest: Reading | None) -> Reading | None:
    """The reading with the lowest loss on held-out items so far; None where it was not read."""
    if not now.held_out or (lowest is not None and rise(now.held_out, lowest.held_out)[0] >= 0):
        return lowest
    return now


def kept(readings: Sequence[Reading]) -> int:
    """Which of a training's readings, in order, is the one whose weights are kept."""
    best, lowest, chosen = readings[0], lowest_of(readings[0], None), 0
    for number, each in enumerate(readings):
        by_heart = lowest and each.held_out and is_by_heart(each.held_out, lowest.held_out, readings[0].held_out)
        chosen = chosen if is_worse(each, best) or by_heart else number
        best, lowest = each if is_better(each, best) else best, lowest_of(each, lowest)
    return chosen
