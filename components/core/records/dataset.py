"""What the data owns: a version of a dataset, and what a family must know of its items."""

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from components.core.item import AnyItem, with_item
from components.core.record import Record
from components.core.records.condition import ClassCondition, Condition


class Dataset(Record):
    """A DVC-versioned folder at a revision."""

    name: str
    repo: str
    rev: str
    md5: str
    item: AnyItem
    count: int
    classes: tuple[str, ...]
    splits: dict[Literal["train", "validation", "test"], int]
    mean: tuple[float, ...]  # per channel, of stored values
    std: tuple[float, ...]
    captions: int = Field(default=0, exclude_if=lambda count: not count)  # distinct ones; 0: none, as in the keys of older runs
    quarantined: int = 0
    duplicates: float = 0.0  # share of items equal to an earlier one; 0 where it was not counted: the public sets
    class_counts: dict[Literal["train", "validation", "test"], tuple[int, ...]] = Field(default_factory=dict)  # likewise

    @model_validator(mode="before")
    @classmethod
    def _of_images(cls, value: Any) -> Any:
        return with_item(value)

    @property
    def modality(self) -> str:
        return self.item.modality

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
    def centre(self) -> tuple[float, ...]:
        """The mean of each channel in data units ([-1, 1])."""
        storage = self.item.storage
        return tuple(each / storage.scale - storage.offset for each in self.mean)

    @property
    def deviation(self) -> float:
        """The standard deviation of all values, each about the mean of its channel, in data units."""
        return math.sqrt(sum(std**2 for std in self.std) / len(self.std)) / self.item.storage.scale


class LocalDataset(Dataset):
    """A dataset whose prepared files can be read on this machine, in the folder `path`."""

    path: str

    @property
    def record(self) -> Dataset:
        """What is true of it on every machine."""
        return Dataset.model_validate(self.model_dump(exclude={"path"}))


class DataSpec(Record):
    """What a family must know of the data: the shape of one item, what it is asked for by, and how spread its values are."""

    item: AnyItem
    condition: Condition | None = None
    std: float = Field(default=0.5, gt=0, description="standard deviation of all values in data units; natural images: about 0.5")
    mean: tuple[float, ...] = Field(default=(), description="mean of each channel, about which `std` is; none: 0, or not known")

    @classmethod
    def of(cls, dataset: Dataset, *, condition: Condition | None = None) -> "DataSpec":
        """As measured when the dataset was prepared. Items that are all the same have no deviation, and get one grey level's."""
        return cls(item=dataset.item, condition=condition, std=max(dataset.deviation, 1 / 255), mean=dataset.centre)

    @model_validator(mode="before")
    @classmethod
    def _of_images(cls, value: Any) -> Any:
        """Bundles and checkpoints of before there were other kinds tell the size of an image, and its classes."""
        if not isinstance(value, dict) or "height" not in value:
            return value
        rest = dict(value)
        item = {"modality": "image", **{name: rest.pop(name) for name in ("channels", "height", "width")}}
        classes, conditional = rest.pop("classes", ()), rest.pop("conditional", False)
        return rest | {"item": item, "condition": {"kind": "class", "classes": classes} if conditional else None}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item in data units."""
        return self.item.shape

    @property
    def conditional(self) -> bool:
        return self.condition is not None

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that an item may be asked for by."""
        return self.condition.classes if isinstance(self.condition, ClassCondition) else ()
