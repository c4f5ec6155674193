"""What training owns: the best weights, and what samples say of a model while it trains."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, Self

from components.core.brief import FamilyName
from components.core.record import Record
from components.core.records.artifact import Artifact
from components.core.records.dataset import DataSpec


class TuningPoint(Record):
    """What one reading of a training that began with a base saw. The losses are those of the same items at the same noise."""

    step: int  # 0: the base itself
    distance: float  # of its samples to training items
    noise: float = 0.0  # the standard error of that
    held_out: tuple[float, ...] = ()  # the loss of each of some items of the new data that it does not learn from
    of_base: tuple[float, ...] = ()  # the loss of each of some items that the base drew
    base_distance: float | None = None  # of its samples to what the base drew

    @property
    def beside(self) -> dict[str, float]:
        """What was seen besides the distance to the data, by the names of its metrics."""
        found = {"held_out_loss": _mean(self.held_out), "base_loss": _mean(self.of_base), "base_fd": self.base_distance}
        return {name: value for name, value in found.items() if value is not None}


class AdapterReload(Record):
    """What a process without genwright made of an adapter: base and files loaded by peft and diffusers, and each answer of the
    network while images are drawn compared with ours. Of a network that is a class of genwright nothing is known."""

    network: str  # its class
    loaded_by: tuple[str, ...] = ()  # name and version of each program
    difference: float | None = None  # the largest of outputs, to the trained model
    merged_difference: float | None = None  # the same to the model with the adapter merged in, which is served
    text_difference: float | None = None  # of a pipeline that was asked with texts: of its images, on average

    @property
    def text(self) -> str:
        """What a person reads of it."""
        if self.difference is None or self.merged_difference is None:
            return f"{self.network} is a class of genwright, which no other program has: read back by peft's loader alone"
        to = f"difference {self.difference:.2g} to the trained model, {self.merged_difference:.2g} to what is served"
        if self.text_difference is not None:
            to += f"; asked with texts it draws images that differ by {self.text_difference:.2g}"
        return f"loaded by {' and '.join(self.loaded_by)} in a process without genwright: {to}"


class MemoryUse(Record):
    """How a step of a training was fitted into memory, of each process, and what it came to. GB are 10^9 bytes."""

    items: int  # of a batch
    parts: int  # that it is taken in
    recomputing: bool  # activations are computed again in the backward pass (gradient checkpointing)
    free_gb: float  # what a step could take
    asked_gb: float | None  # what a step of the whole batch takes that keeps its activations; None: more than could be tried
    needed_gb: float  # what it takes as it was chosen
    measured: bool  # by whole steps, on a GPU; else weighed by what small ones keep
    codes_gb: float = 0.0  # of the codes of all items, kept while a second stage learns them; 0: not kept
    peak_gb: float = 0.0  # on a GPU the most that was held there, else the most that the process held, its libraries included

    @property
    def text(self) -> str:
        """A sentence without an end."""
        how = [f"in {self.parts} parts"] if self.parts > 1 else []
        how += ["with activations computed again in the backward pass"] if self.recomputing else []
        kind = "" if self.measured else "about "
        asked = f"more than {self.free_gb:.3g} GB" if self.asked_gb is None else f"{kind}{self.asked_gb:.3g} GB"
        took = (
            f"{self.items:,} items at a time, {kind}{self.needed_gb:.3g} GB"
            if not how
            else (f"{self.items:,} items take {asked}; taken {' and '.join(how)}, {kind}{self.needed_gb:.3g} GB")
        )
        codes = f"; codes of all items {self.codes_gb:.2g} GB" if self.codes_gb else ""
        peak = f"; peak {self.peak_gb:.3g} GB" if self.peak_gb else ""
        return f"{took}, {self.free_gb:.3g} GB free{codes}{peak}"


class Checkpoint(Record):
    """The weights that are kept of one training run, tied to one MLflow run."""

    weights: Artifact  # safetensors: the averaged weights of the step that was kept, of LoRA the merged ones
    adapter: tuple[Artifact, ...] = ()  # of LoRA: the matrices alone, as peft reads them, in files beside the weights
    family: FamilyName
    variant: str
    config: dict[str, Any]
    spec: DataSpec
    dataset_md5: str
    run_id: str
    step: int
    steps_total: int
    improving: bool = False  # the reading at that step was lower than all before it, by more than chance
    train_s: float
    quality: float  # the distance that was read at that step; lower is better, comparable within one run
    collapse: str = ""  # why its samples counted as collapsed, if they did and none of the run were better
    stopped_by: str  # items_seen, or the ceiling that came first: compute.minutes
    items_seen: int = 0  # in all
    items_planned: int = 0
    threads: int = 0  # of the CPU, in each process; 0 in what an older version trained
    machine: str = ""  # hardware and threads that trained it last; empty in what an older version trained
    memory: MemoryUse | None = None  # None in what an older version trained
    tuning: tuple[TuningPoint, ...] = ()  # of a training that began with a base: before its first step, and at each reading


ERRORS = 2.0  # standard errors that are more than chance
GIVEN_BACK = 0.25  # of what held-out losses had fallen by, and of what they are: docs/decisions/0034-what-fine-tuning-tells.md


class Reading(Record):
    """What samples on fixed noise say of a model while it trains.

    Diversity, precision, coverage and classes are shares of what as many real images get: 1 is no worse than the data itself.
    """

    distance: float  # lower is better; comparable within one run
    influence: tuple[float, ...] = ()  # of each sample: how the distance moves with its weight
    diversity: float = 1.0
    precision: float = 1.0
    coverage: float = 1.0
    classes: float = 1.0  # how many a classifier sees; 1 where the data has no labels
    collapse: str = ""  # why the samples count as collapsed, if they do
    held_out: tuple[float, ...] = ()  # of a training with a base: the loss of each of some items that it does not learn from
    of_base: tuple[float, ...] = ()  # likewise: of each of some items that the base drew
    base_distance: float | None = None  # likewise: of the samples to what the base drew

    @property
    def noise(self) -> float:
        """The standard error of the distance, by the samples; 0 where no influence is known."""
        return _standard_error(self.influence)

    def noise_beside(self, other: Self) -> float:
        """That of the difference of two distances of one model on the same noise: the chance that their samples share cancels."""
        if len(self.influence) != len(other.influence):  # a run that goes on with more items reads more
            return math.hypot(self.noise, other.noise)
        return _standard_error([a - b for a, b in zip(self.influence, other.influence, strict=True)])


def rise(losses: Sequence[float], before: Sequence[float]) -> tuple[float, float]:
    """By how much the mean loss of some items rose, and its standard error: each item is compared with itself."""
    each = [now - then for now, then in zip(losses, before, strict=True)]
    return fmean(each), _standard_error(each)


def is_by_heart(now: Sequence[float], lowest: Sequence[float], first: Sequence[float]) -> bool:
    """Whether held-out losses rose above their lowest by more than chance, and by more than a quarter of what they had
    fallen from the first: of the same items at the same noise even a rise of 0.2 % is above chance. A base far from the data
    has so large a first loss that a quarter of the fall hides any rise: a quarter of the lowest loss itself is too much, too."""
    up, error = rise(now, lowest)
    fall, level = -rise(lowest, first)[0], fmean(lowest)
    allowed = min(fall, level) if level > 0 else fall  # that of a density may be below 0
    return up > max(0.0, ERRORS * error, GIVEN_BACK * allowed)


def _mean(losses: Sequence[float]) -> float | None:
    return fmean(losses) if losses else None


def _standard_error(influence: Sequence[float]) -> float:
    return stdev(influence) / math.sqrt(len(influence)) if len(influence) > 1 else 0.0
