"""What the data owns: a version of a dataset, and what a family must know of its items."""

import math
from typing import Literal

from pydantic import Field

from components.core.brief import Modality
from components.core.record import Record


class Dataset(Record):
    """A DVC-versioned folder at a revision."""

    name: str
    repo: str
    rev: str
    md5: str
    modality: Modality
    shape: tuple[int, int, int]  # height, width, channels
    count: int
    classes: tuple[str, ...]
    splits: dict[Literal["train", "validation", "test"], int]
    mean: tuple[float, ...]  # per channel, of [0, 255]
    std: tuple[float, ...]
    quarantined: int = 0
    duplicates: float = 0.0  # share of items equal to an earlier one; 0 where it was not counted: the public sets
    class_counts: dict[Literal["train", "validation", "test"], tuple[int, ...]] = Field(default_factory=dict)  # likewise

    @property
    def held_out(self) -> int:
        """How many items a proof compares with."""
        return self.count - self.splits.get("train", self.count)

    @property
    def rare_classes(self) -> tuple[str, ...]:
        """Classes without an item to train on, or without one that is held out."""
        train, *others = (self.class_counts.get(split, ()) for split in ("train", "validation", "test"))
        kept = [sum(counts) for counts in zip(*others, strict=True)]
        return tuple(name for name, learnt, left in zip(self.classes, train, kept, strict=False) if not (learnt and left))

    @property
    def deviation(self) -> float:
        """The standard deviation of all values together, in data units ([-1, 1])."""
        mean = sum(self.mean) / len(self.mean)
        square = sum(std**2 + each**2 for std, each in zip(self.std, self.mean, strict=True)) / len(self.mean)
        return math.sqrt(max(square - mean**2, 0.0)) / 127.5


class LocalDataset(Dataset):
    """A dataset whose prepared files can be read on this machine, in the folder `path`."""

    path: str

    @property
    def record(self) -> Dataset:
        """What is true of it on every machine."""
        return Dataset.model_validate(self.model_dump(exclude={"path"}))


class DataSpec(Record):
    """What a family must know of the data: the shape of one item, its classes and spread. Data units: floats in [-1, 1], NCHW."""

    channels: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    classes: tuple[str, ...] = ()
    conditional: bool = False
    std: float = Field(default=0.5, gt=0, description="standard deviation of all values; about 0.5 for natural images")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.height, self.width)
