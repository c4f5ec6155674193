"""What a metric and a gate say of themselves. Each says it once, in the file that measures it: evaluation/metrics/NAME.py.

The id is the key in a scorecard; in MLflow a proof's metric is `proof/ID`, and what is read while a model trains is `train/ID`.
"""

import math
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Words:
    """What people read of a metric. `share`: it is a part of a whole, and lies in [0, 1]. `order`: metrics are shown by it.

    `timed`: a clock measures it, so that the same artifact gets another value each time. `proof_only`: of features that only a
    proof sees, so no choice of a candidate may look at it.
    """

    id: str
    name: str
    note: str
    unit: str = ""
    better: Better = "neither"
    share: bool = False
    order: int = 500
    timed: bool = False
    proof_only: bool = False

    @property
    def label(self) -> str:
        """The name and the id, where a person must match them: 'Rarest class (class_share_min)'."""
        return self.name if self.name == self.id else f"{self.name} ({self.id})"

    @property
    def heading(self) -> str:
        """The name and the unit, for an axis or a column: 'Latency p95 (ms)'."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Gate:
    """One limit on one metric: its name in a brief, the metric's id, and which side is good.

    `default`: the threshold where a brief gives none; None is off, "serving" is the latency limit of the brief. `takes`: which
    thresholds make sense, any number, one above 0, or a share of 0 to 1. `student`: what holds a student to its teacher where
    the brief says nothing. `worse_beyond`: of a limit that leaves room for what is a little worse, where worse begins: an
    interval wholly beyond that fails, though it may reach to the good side of the limit. `relative`: it compares
    with a champion, so without one there is nothing to judge. `optional`: where the metric does not apply to a model the gate
    is left out; of any other a missing metric is an error.

    For advice (evaluation/advice.py): `cause` is what it means when this gate does not pass, `repeats` says that data which
    repeats itself fails it.
    """

    name: str
    metric: str
    limit: Literal["max", "min"]
    default: float | Literal["serving"] | None
    takes: Literal["number", "positive", "share"] = "number"
    student: float | None = None
    worse_beyond: float | None = None
    relative: bool = False
    optional: bool = False
    order: int | None = None  # the metric's own, unless it is given
    cause: Literal["", "latency", "memorised"] = ""
    repeats: bool = False


# What is read of a few samples on fixed noise while a model trains, and logged in MLflow under this id.
READINGS = {
    words.id: words
    for words in (
        Words(
            "train/fd",
            "Distance in training",
            "Frechet, on random features, of some samples to training items: only for comparing readings of one run",
            better="lower",
        ),
        Words("train/fd_noise", "Standard error of the distance in training", "by the samples of the reading", better="neither"),
        Words("train/diversity", "Diversity in training", "over that of as many real items", better="higher"),
        Words("train/precision", "Precision in training", "over that of as many real items", better="higher"),
        Words("train/coverage", "Coverage in training", "over that of as many real items", better="higher"),
        Words("train/classes", "Classes in training", "seen in the samples, over those in as many real items", better="higher"),
        Words(
            "train/held_out_loss", "Loss on held-out items", "of a training with a base, at the same noise always", better="lower"
        ),
        Words("train/base_loss", "Loss on what the base drew", "likewise; it rises as that is forgotten", better="lower"),
        Words(
            "train/base_fd", "Distance to what the base drew", "Frechet, on random features, of some samples", better="neither"
        ),
        Words("train/collapsed", "Collapsed", "1 where a reading finds modes lost", better="lower"),
    )
}


def number(value: float) -> str:
    """A value in three digits, or whole from a thousand on.

    >>> number(0.012345), number(12345.6)
    ('0.0123', '12,346')
    """
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
