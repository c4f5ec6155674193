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
from functools import partial
from statistics import NormalDist
from typing import Protocol

from components.core.brief import LOOKS_MAX
from components.core.proof_items import Asked
from components.core.records import Metric

LOOKS = 3  # times that samples are judged, doubled from one to the next, where a brief does not say
REFERENCE_MAX = 5000  # reference items taken (a seeded choice), which bounds the work on large sets
PASS_ERROR, FAIL_ERROR = 0.05, 0.01
MARGIN = 1.25  # where a brief does not say: decision 3
POWER = 0.8  # at which a ratio counts as told apart
REPRESENTATIONS = 2
EQUALS_PASS = 0.95  # of both
ALIKE = 1 / 3  # of a distance's error by the reference, what is left of it in the ratio of two models of like faults
FIRST = "distance_ratio_max"  # the gate on the features of the dataset
SECOND = "heldout_ratio_max"  # that on features that only the proof sees
# By the gate: what a scorecard calls the errors of its distance, by the reference items and by the samples.
MEASURED = {
    FIRST: ("error_by_real", "error_by_samples"),
    SECOND: ("heldout_error_by_real", "heldout_error_by_samples"),
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
        """From a scorecard, at other counts; None of one of before these were measured."""
        if any(name not in metrics for name in MEASURED[gate]):
            return None
        by_real, by_samples = (metrics[name] for name in MEASURED[gate])
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


def told_apart(spread: Spread, *, margin: float, alike: bool, looks: int) -> float:
    """The ratio that fails with POWER at the last look.

    It fails where the lower end is beyond 1 (and a margin below 1), and the upper one beyond the margin (gates: `worse_beyond`).
    Of an estimate x of log R both hold where x > log min(1, margin) + z_low s and x > log margin - z_high s: R has to be as far
    beyond the larger of the two as POWER asks.
    """
    s = spread.of_ratio(alike=alike)
    low, high = end_scores(look=looks - 1, looks=looks)
    needed = max(math.log(min(1.0, margin)) + low * s, math.log(margin) - high * s)
    return _ratio(needed + _score(1 - POWER) * s)


def equals_margin(spread: Spread, *, alike: bool, looks: int) -> float:
    """The margin that a model as good as its champion passes so often that it passes both with EQUALS_PASS."""
    _, high = end_scores(look=looks - 1, looks=looks)
    return _ratio((high + _score((1 - EQUALS_PASS) / REPRESENTATIONS)) * spread.of_ratio(alike=alike))


def foretold(spread: Spread, *, prefix: str = "", margin: float, looks: int, reference: int, samples: int) -> dict[str, Metric]:
    """What a scorecard says of its successors' verdicts, under names with this prefix: the errors at these counts, and what they
    tell apart. An interval ends at what it is where faults are of another kind."""
    found = {}
    for name, error, count in (("real", spread.by_real, reference), ("samples", spread.by_samples, samples)):
        found[f"{prefix}error_by_{name}"] = Metric(value=error, low=error, high=error, n=count)
    for name, tells in (("ratio_told", partial(told_apart, margin=margin)), ("equals_margin", equals_margin)):
        alike, other = (tells(spread, alike=each, looks=looks) for each in (True, False))
        found[prefix + name] = Metric(value=alike, low=alike, high=other, n=reference)
    return found


@dataclass(frozen=True)
class _Told:
    """What a gate can tell by these counts. `spread`: as `measured` on the champion, or the usual one."""

    gate: str
    margin: float
    spread: Spread
    measured: bool
    reference: int
    samples: int
    looks: int
    asked: Asked

    @classmethod
    def of(
        cls, gate: str, metrics: Mapping[str, Metric], *, margin: float, reference: int, samples: int, looks: int, asked: Asked
    ) -> "_Told":
        counts = {"reference": min(reference, asked.real or reference), "samples": min(samples, asked.samples or samples)}
        measured = Spread.again(metrics, gate, **counts)
        spread = measured or Spread.usual(**counts)
        return cls(gate, margin, spread, measured is not None, looks=looks, asked=asked, **counts)

    @property
    def sentence(self) -> str:
        """The ratio that is told apart."""
        tell = partial(told_apart, self.spread, margin=self.margin, looks=self.looks)
        how = "as measured on the champion" if self.measured else "about, as nothing was measured on this data yet"
        on = "" if self.gate == FIRST else " on features that only the proof sees"
        return (
            f"with {self.reference:,} held-out items a model {tell(alike=True):.2f} times as far from the data as its champion"
            f"{on} fails 4 times in 5 ({tell(alike=False):.2f} where its faults are of another kind; {how})"
        )

    @property
    def by(self) -> tuple[float, int, int]:
        """What it is told by where nothing was measured."""
        return self.margin, self.reference, self.samples

    @property
    def margin_wanted(self) -> float:
        """That equals pass 19 times in 20."""
        return self.needed(self.spread)

    def needed(self, spread: Spread) -> float:
        return equals_margin(spread, alike=True, looks=self.looks)

    @property
    def remedy(self) -> str:
        """Against what limits it, where that can be raised, else against the other, where that is enough by itself."""
        more_data = self.reference < (self.asked.real or REFERENCE_MAX)
        more_samples = self.looks < LOOKS_MAX and (self.asked.samples is None or self.samples < self.asked.samples)
        by_samples = math.sqrt(2) * self.spread.by_samples > ALIKE * self.spread.by_real
        if more_samples and (by_samples or (not more_data and self.needed(Spread(self.spread.by_real, 0.0)) <= self.margin)):
            return (
                f"the {self.samples:,} samples limit that: set proof.looks to {self.looks + 1}, which doubles them, or set it to "
            )
        if more_data and (not by_samples or self.needed(Spread(0.0, self.spread.by_samples)) <= self.margin):
            return f"{MORE}, or set it to "
        short, most = ("samples", self.samples) if by_samples else ("held-out items", self.reference)
        return f"the {most:,} {short} limit that, and no more are judged by: set it to "


def sentences(
    metrics: Mapping[str, Metric] | None,
    *,
    margins: Mapping[str, float | None],
    reference: int,
    samples: int,
    looks: int,
    unseen: Asked = Asked(),  # noqa: B008 (frozen)
) -> tuple[str, ...]:
    """For a person, before anything is trained: what the gates can tell, and what raises it. `metrics`: the champion's scorecard,
    None where there is none or it is of before these were measured; `margins`: of these gates, by their names; `samples`: at the
    last look; `unseen`: how much of both the network that only the proof sees is asked."""
    counts = {"reference": reference, "samples": samples, "looks": looks}
    told = [
        _Told.of(gate, metrics or {}, margin=margin, asked=Asked() if gate == FIRST else unseen, **counts)
        for gate, margin in margins.items()
        if margin is not None
    ]
    lines: list[str] = []
    for place, each in enumerate(told):
        if not each.measured and any(each.by == other.by for other in told[:place]):
            continue  # about the same, by the counts alone
        lines.append(each.sentence)
    if short := [each for each in told if each.margin_wanted > each.margin]:
        worst = max(short, key=lambda each: each.margin_wanted)
        others = "".join(f", gates.{each.gate} to {each.margin_wanted:.2f}" for each in short if each != worst)
        lines.append(
            f"a model as good as its champion passes a margin of {worst.margin_wanted:.2f} 19 times in 20, and "
            f"gates.{worst.gate} is {worst.margin:g}: {worst.remedy}{worst.margin_wanted:.2f}{others}"
        )
    return tuple(lines)


def _score(error: float) -> float:
    return NormalDist().inv_cdf(1 - error)


def _ratio(logarithm: float) -> float:
    return min(RATIO_MOST, math.exp(min(logarithm, math.log(RATIO_MOST))))
