"""What training owns: the best weights, and what samples say of a model while it trains."""

from typing import Any

from components.core.brief import FamilyName
from components.core.record import Record
from components.core.records.artifact import Artifact
from components.core.records.dataset import DataSpec


class Checkpoint(Record):
    """The best weights of one training run, tied to one MLflow run."""

    weights: Artifact  # safetensors: the averaged weights of the best step
    family: FamilyName
    variant: str
    config: dict[str, Any]
    spec: DataSpec
    dataset_md5: str
    run_id: str
    step: int
    steps_total: int
    train_s: float
    quality: float  # the quality signal at the best step; lower is better
    collapse: str = ""  # why its samples counted as collapsed, if they did and none of the run were better
    stopped_by: str  # items_seen, or the ceiling that came first: compute.minutes
    items_seen: int = 0  # in all
    items_planned: int = 0
    threads: int = 0  # of the CPU, in each process; 0 in what an older version trained


class Reading(Record):
    """What samples on fixed noise say of a model while it trains.

    Diversity, precision, coverage and classes are shares of what as many real images get: 1 is no worse than the data itself.
    """

    distance: float  # lower is better; comparable within one run
    diversity: float = 1.0
    precision: float = 1.0
    coverage: float = 1.0
    classes: float = 1.0  # how many a classifier sees; 1 where the data has no labels
    collapse: str = ""  # why the samples count as collapsed, if they do
