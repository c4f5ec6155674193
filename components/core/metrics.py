"""The words of every metric, once: its id, its name, what it means. Console, card, gates, pictures and MLflow read them here.

The id is the key in a scorecard; in MLflow a proof's metric is `proof/ID`, and what is read while a model trains is `train/ID`.
"""

import math
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Words:
    """What people read of a metric. `share`: it is a part of a whole, and lies in [0, 1]."""

    id: str
    name: str
    note: str
    unit: str = ""
    better: Better = "neither"
    share: bool = False

    @property
    def label(self) -> str:
        """The name and the id, where a person must match them: 'Rarest class (class_share_min)'."""
        return self.name if self.name == self.id else f"{self.name} ({self.id})"

    @property
    def heading(self) -> str:
        """The name and the unit, for an axis or a column: 'Latency p95 (ms)'."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def _words(
    key: str, name: str, note: str, *, unit: str = "", better: Better = "neither", share: bool = False
) -> tuple[str, Words]:
    return key, Words(key, name, note, unit, better, share)


METRICS = dict(
    (  # in the order in which they are shown
        _words("fd", "FD-local", "Fréchet distance of this dataset's own features; never an FID", better="lower"),
        _words("fd_ratio", "FD-local over the champion's", "resampled together, same reference and seeds", better="lower"),
        _words("fd_noise_ratio", "FD-local over that of noise", "0 is the data, 1 is noise", better="lower"),
        _words("kid", "KID", "unbiased kernel distance; about 0 for the data itself", better="lower"),
        _words("precision", "Precision", "samples within the real manifold", better="higher", share=True),
        _words("recall", "Recall", "real images within the samples' manifold", better="higher", share=True),
        _words("density", "Density", "real neighbourhoods a sample lies in; 1 for the data itself", better="higher"),
        _words("coverage", "Coverage", "real images with a sample near them", better="higher", share=True),
        _words("coverage_lost", "Coverage lost", "the champion's less this one's, on the same real images", better="lower"),
        _words("recall_lost", "Recall lost", "the champion's less this one's, on the same real images", better="lower"),
        _words("diversity", "Diversity", "mean distance between samples over that between real images; 1 is as diverse"),
        _words("duplicates", "Duplicates", "samples with a twin among the samples", better="lower", share=True),
        _words(
            "memorised",
            "Memorised",
            "samples as close to a training image as 1 % of held-out ones are",
            better="lower",
            share=True,
        ),
        _words("confident_share", "Sure", "samples the classifier is more than 0.9 sure of", better="higher", share=True),
        _words("confident_share_real", "Sure, real images", "what held-out images get", share=True),
        _words("class_share_min", "Rarest class", "its share of the samples", better="higher", share=True),
        _words("label_agreement", "Label agreement", "samples that look like the class asked for", better="higher", share=True),
        _words(
            "bits_per_dim",
            "Bits/dim",
            "held-out images under the model; an upper bound where the family has a bound",
            better="lower",
        ),
        _words(
            "reconstruction_error",
            "Reconstruction error",
            "root mean square of held-out images",
            unit="grey levels of 255",
            better="lower",
        ),
        _words("latency_p95_ms", "Latency p95", "one item alone", unit="ms", better="lower"),
        _words("throughput_per_s", "Throughput", "in full batches", unit="items/s", better="higher"),
        _words("fd_noise", "FD-local of noise", "the upper mark"),
        _words("fd_real", "FD-local of training images", "the lower mark: what as many real images get"),
    )
)

# What is read of a few samples on fixed noise while a model trains, and logged in MLflow under this id.
TRAINING = dict(
    (
        _words(
            "train/fd",
            "FD-local in training",
            "of a few samples, to training images: only for comparing readings of one run",
            better="lower",
        ),
        _words("train/diversity", "Diversity in training", "over that of as many real images", better="higher"),
        _words("train/precision", "Precision in training", "over that of as many real images", better="higher"),
        _words("train/coverage", "Coverage in training", "over that of as many real images", better="higher"),
        _words("train/classes", "Classes in training", "seen in the samples, over those in as many real images", better="higher"),
        _words("train/collapsed", "Collapsed", "1 where a reading finds modes lost", better="lower"),
    )
)


def words_of(metric: str) -> Words:
    """The words of a metric; one that is not in the tables is called by its id."""
    return METRICS.get(metric) or TRAINING.get(metric) or Words(metric, metric, "")


def number(value: float) -> str:
    """A value in three digits, or whole from a thousand on."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
