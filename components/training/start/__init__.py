"""Where the weights of a training begin. Found, not listed: a file here that defines a `Start` of its own name is a start.

    scratch     drawn from the seed
    finetune    those of a release made here, or of a model made elsewhere
    unchanged   those of such a model, which is released as it is: nothing is trained
    combine     those of such a model with adapters of it added, released as they are
    lora        those of such a model, at rest, with low-rank matrices that learn
    student     those of a teacher, whose drawing it learns; `genwright distil` asks for it

A start is a record in the plan of a training, with what it begins from, and builds the model. A brief names one in override.mode;
the policy knows scratch, finetune and lora, and chooses among them by itself. Modules here import torch when they build.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from components.core.brief import FamilyName
from components.core.errors import BriefError
from components.core.record import Record
from components.core.records import Checkpoint, DataSpec
from components.training.kept import Kept

if TYPE_CHECKING:
    from torch import Tensor

    from components.core.family import Family
    from components.core.protocols import ItemSplit

Origin = Literal["nothing", "release", "foreign"]  # no model; one that was made here; one that was made elsewhere


class ModelPlan(Protocol):
    """The part of a training's plan that says which model is built."""

    @property
    def family(self) -> FamilyName: ...
    @property
    def variant(self) -> str: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def spec(self) -> DataSpec: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> Literal["cpu", "cuda"]: ...
    @property
    def start(self) -> "Start": ...


class Start(Record, ABC):
    """What a training begins from. `kind`, the name of its file, tells the records apart.

    A field `base` (a Checkpoint) and a field `weights` (the Path of its file on this machine) are filled from the brief's
    pretrained model.
    """

    begins_from: ClassVar[tuple[Origin, ...]] = ("nothing",)  # what it is built for
    in_briefs: ClassVar[bool] = True  # whether override.mode may name it
    new_classes: ClassVar[bool] = False  # whether it may have other classes than its base
    learns: ClassVar[bool] = True  # whether anything is trained
    base_rate: ClassVar[float] = 1.0  # of the base's peak learning rate, where there is a base
    decay_from: ClassVar[float | None] = None  # the share of the run after which the rate falls; None: as the base's did
    kind: str

    @classmethod
    def of(cls, **known: object) -> Self:
        """The start, from those of the known values that it has fields for."""
        return cls.model_validate({name: value for name, value in known.items() if name in cls.model_fields})

    @classmethod
    def needs_base(cls) -> bool:
        """Whether it begins from a pretrained model."""
        return "base" in cls.model_fields

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it another start: all but where files lie on this machine."""
        places = {name for name, field in type(self).model_fields.items() if field.annotation is Path}
        return self.model_dump(mode="json", exclude=places)

    @abstractmethod
    def build(self, plan: ModelPlan) -> "Family":
        """The family of the plan with its first weights. Raises BriefError for a plan that does not fit."""

    def keep(self, average: "Family") -> Kept:
        """What a checkpoint keeps of the averaged model."""
        return Kept(average.kept())

    def made(self, plan: ModelPlan, split: "ItemSplit") -> Kept | None:
        """Of a start that does not learn, what is kept in the place of a training; None: the base's own file. `split`: the items
        of the data that others are trained on."""
        return None

    def go_back(self, kept: Checkpoint, path: Path, family: "Family") -> "dict[str, Tensor]":
        """Values of the family's state from a checkpoint whose weights lie at `path`, for a training that goes back to it."""
        from components.training.checkpoint import load_weights

        return load_weights(kept.weights, path)


def build(plan: ModelPlan) -> "Family":
    """The family of a plan with its first weights."""
    return plan.start.build(plan)


@cache
def starts() -> dict[str, type[Start]]:
    """Every start found, by its name. Raises TypeError for a file that defines none."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        own = [each for each in members if isinstance(each, type) and issubclass(each, Start) and _kind(each) == module.name]
        if len(own) != 1:
            raise TypeError(
                f"components/training/start/{module.name}.py: one Start with kind: Literal[{module.name!r}] is needed"
            )
        found[module.name] = own[0]
    return found


def find_start(name: str) -> type[Start]:
    """The start of this name, as a brief may give it. Raises BriefError."""
    known = {kind: start for kind, start in starts().items() if start.in_briefs}
    if name not in known:
        raise BriefError(f"override.mode: {name!r} given", allowed=", ".join(sorted(known)))
    return known[name]


def read_start(value: object) -> object:
    """A start from its JSON, by its kind; one that is read already is given back. Raises ValueError."""
    if not isinstance(value, Mapping):
        return value
    if value.get("kind") not in starts():
        raise ValueError(f"a start of kind {value.get('kind')!r}; allowed: {', '.join(starts())}")
    return starts()[str(value["kind"])].model_validate(value)


def _kind(start: type[Start]) -> object:
    return start.model_fields["kind"].default
