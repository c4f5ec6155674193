"""What the gate on the distance may get wrong, how that is spent over its looks, and what it can tell apart. Imports no numpy.

The gates ask whether a candidate is at most `margin` times as far from the data as its champion, on the features of the dataset
and on features that only the proof sees. Their errors over all looks together: a candidate at the margin of either passes at most
PASS_ERROR of the time, an equal of the champion fails at most FAIL_ERROR. Each look spends its part of both, and what is spent
adds up whatever the looks have in common (Bonferroni); later looks, which see more, have more (Lan and DeMets 1983, 'Discrete
sequential boundaries for clinical trials'). To pass, a candidate must pass both, which may each err as both together may (an
intersection-union test, Berger 1982); to fail, one is enough, so each has half of that error, whatever they have in common.

Sizes are of the logarithm of the ratio: s is its standard error at the last look.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from components.core.brief import LOOKS_MAX
from components.core.records import Metric

LOOKS = 3  # times that samples are judged, doubled from one to the next, where a brief does not say
REFERENCE_MAX = 5000  # reference items taken (a seeded choice), which bounds the work on large sets
PASS_ERROR, FAIL_ERROR = 0.05, 0.01
POWER = 0.8  # at which a ratio counts as told apart
REPRESENTATIONS = 2
EQUALS_PASS = 0.95  # of both
ALIKE = 1 / 3  # of a distance's error by the reference, what is left of it in the ratio of two models of like faults
# By the gate: what a scorecard calls the errors of its distance, by the reference items and by the samples.
FIRST = "distance_ratio_max"  # on the features of the dataset
MEASURED = {
    FIRST: ("error_by_real", "error_by_samples"),
    "heldout_ratio_max": ("heldout_error_by_real", "heldout_error_by_samples"),
}
MORE = "add data, a fifth of which is held out"
RATIO_MOST = 100.0  # beyond it no number is told
# The standard errors of a distance, as a share of it and times the root of the count, where nothing was measured yet: about those
# of models of 8 x 8 digits (benchmarks/gates.py).
USUAL_BY_REAL, USUAL_BY_SAMPLES = 2.5, 2.8


class Moves(Protocol):
    """A distance with how it moves by each item (evaluation/kernel.py)."""

    @property
    def by_sample_N(self) -> "Values": ...  # noqa: N802 (the suffix is the shape)
    @property
    def by_real_M(self) -> "Values": ...  # noqa: N802


class Values(Protocol):
    def __len__(self) -> int: ...
    def std(self) -> float: ...


@dataclass(frozen=True)
class Spread:
    """The standard errors of one model's distance, as shares of it: by the reference items, and by its samples."""

    by_real: float
    by_samples: float

    @classmethod
    def of(cls, moves: Moves, distance: float, *, samples: int) -> "Spread":
        """As measured, at so many samples."""
        by_real, by_samples = float(moves.by_real_M.std()), float(moves.by_sample_N.std())
        return cls(by_real / math.sqrt(len(moves.by_real_M)) / distance, by_samples / math.sqrt(samples) / distance)

    @classmethod
    def again(cls, metrics: Mapping[str, Metric], gate: str, *, reference: int, samples: int) -> "Spread | None":
        """From a scorecard, at other counts; None of one of before these were measured. Of features that only the proof sees no
        more items count than were looked at, as some networks are asked of no more."""
        if any(name not in metrics for name in MEASURED[gate]):
            return None
        by_real, by_samples = (metrics[name] for name in MEASURED[gate])
        if gate != FIRST:
            reference, samples = min(reference, by_real.n), min(samples, by_samples.n)
        return cls(by_real.value * math.sqrt(by_real.n / reference), by_samples.value * math.sqrt(by_samples.n / samples))

    @classmethod
    def usual(cls, *, reference: int, samples: int) -> "Spread":
        """Where nothing was measured yet."""
        return cls(USUAL_BY_REAL / math.sqrt(reference), USUAL_BY_SAMPLES / math.sqrt(samples))

    def of_ratio(self, *, alike: bool) -> float:
        """s of two such models, whose samples are drawn apart. `alike`: their faults are, so that most of what the reference adds
        is shared and cancels; else each has its own."""
        return math.hypot(math.sqrt(2) * self.by_samples, (ALIKE if alike else math.sqrt(2)) * self.by_real)


def share_spent(*, look: int, looks: int) -> float:
    """Of the errors, by this look: as the samples, which double from look to look."""
    return float(2**look / (2**looks - 1))


def end_scores(*, look: int, looks: int) -> tuple[float, float]:
    """How many standard errors the interval's lower and upper end are away, at this look."""
    spent = share_spent(look=look, looks=looks)
    return _score(FAIL_ERROR / REPRESENTATIONS * spent), _score(PASS_ERROR * spent)


def told_apart(spread: Spread, *, alike: bool, looks: int) -> float:
    """The ratio that fails with POWER."""
    low, _ = end_scores(look=looks - 1, looks=looks)
    return _ratio((low + _score(1 - POWER)) * spread.of_ratio(alike=alike))


def equals_margin(spread: Spread, *, alike: bool, looks: int) -> float:
    """The margin that a model as good as its champion passes so often that it passes both with EQUALS_PASS."""
    _, high = end_scores(look=looks - 1, looks=looks)
    return _ratio((high + _score((1 - EQUALS_PASS) / REPRESENTATIONS)) * spread.of_ratio(alike=alike))


def foretold(spread: Spread, *, prefix: str = "", looks: int, reference: int, samples: int) -> dict[str, Metric]:
    """What a scorecard says of its successors' verdicts, under names with this prefix: the errors at these counts, and what they
    tell apart. An interval ends at what it is where faults are of another kind."""
    found = {}
    for name, error, count in (("real", spread.by_real, reference), ("samples", spread.by_samples, samples)):
        found[f"{prefix}error_by_{name}"] = Metric(value=error, low=error, high=error, n=count)
    for name, tells in (("ratio_told", told_apart), ("equals_margin", equals_margin)):
        alike, other = (tells(spread, alike=each, looks=looks) for each in (True, False))
        found[prefix + name] = Metric(value=alike, low=alike, high=other, n=reference)
    return found


def sentences(
    metrics: Mapping[str, Metric] | None, *, margins: Mapping[str, float | None], reference: int, samples: int, looks: int
) -> tuple[str, ...]:
    """For a person, before anything is trained: what the gates can tell, and what raises it. `metrics`: the champion's scorecard,
    None where there is none or it is of before these were measured; `margins`: of these gates, by their names; `samples`: at the
    last look."""
    asked = {gate: margin for gate, margin in margins.items() if margin is not None}
    if not asked:
        return ()
    counts = {"reference": reference, "samples": samples}
    known = {gate: Spread.again(metrics or {}, gate, **counts) for gate in asked}
    usual = Spread.usual(**counts)
    lines: list[str] = []
    for gate, measured in known.items():
        if measured is None and lines:
            continue  # about the same, by the counts alone
        alike, other = (told_apart(measured or usual, alike=each, looks=looks) for each in (True, False))
        how = "about, as nothing was measured on this data yet" if measured is None else "as measured on the champion"
        on = "" if gate == FIRST else " on features that only the proof sees"
        lines.append(
            f"with {reference:,} held-out items a model {alike:.2f} times as far from the data as its champion{on} fails 4 "
            f"times in 5 ({other:.2f} where its faults are of another kind; {how})"
        )
    wanted = {gate: equals_margin(measured or usual, alike=True, looks=looks) for gate, measured in known.items()}
    if short := {gate: value for gate, value in wanted.items() if value > asked[gate]}:
        worst = max(short, key=lambda gate: short[gate])
        others = "".join(f", gates.{gate} to {value:.2f}" for gate, value in short.items() if gate != worst)
        remedy = _remedy(known[worst] or usual, samples=samples, looks=looks)
        lines.append(
            f"a model as good as its champion passes a margin of {short[worst]:.2f} 19 times in 20, and gates.{worst} is "
            f"{asked[worst]:g}: {remedy}, or set it to {short[worst]:.2f}{others}"
        )
    return tuple(lines)


def _remedy(spread: Spread, *, samples: int, looks: int) -> str:
    """Against what limits it."""
    if looks < LOOKS_MAX and math.sqrt(2) * spread.by_samples > ALIKE * spread.by_real:
        return f"the {samples:,} samples limit that: set proof.looks to {looks + 1}, which doubles them"
    return MORE


def _score(error: float) -> float:
    return NormalDist().inv_cdf(1 - error)


def _ratio(logarithm: float) -> float:
    return min(RATIO_MOST, math.exp(min(logarithm, math.log(RATIO_MOST))))
