"""Classes of a base carried over to data that has others: each weight that stands for a class moves with it.

Where class names of the base occur in the new data, a class begins as the base's class of that name; where none does, class k as
the base's class k. A class that the base has not begins as the mean of its classes, near all of them and favouring none.

Which axes of which weights run over the classes is not listed: two networks that differ by one class differ in these axes alone.
On such an axis of m K + e places the classes stand first in a table of embeddings (e: the place of 'no class'), and last where
they are appended to other inputs (e: those).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from components.core.family import Family
from components.core.records import ClassCondition, DataSpec

SPARE = "a class more"  # of the network that is only built to be compared with


@dataclass(frozen=True)
class ClassAxis:
    """An axis of a weight with `each` places a class, the classes first or last on it."""

    axis: int
    each: int
    first: bool


def carried_over(weights: Mapping[str, Tensor], made: Family, base: DataSpec) -> dict[str, Tensor]:
    """The weights of a base, its spec, with the classes of the family `made`, which was built for them.

    What stands for classes in another number of places, such as a mixture that is fitted to the data, is that of `made`.
    """
    asked = base.condition
    if not isinstance(asked, ClassCondition) or not made.spec.conditional:
        return dict(weights)
    known = asked.origins(made.spec.classes)
    if known == [*range(len(asked.classes))]:
        return dict(weights)
    axes, own = class_axes(made), made.state_dict()
    moved = {
        name: _moved(value, axes[name], known, len(asked.classes)) if name in axes else value for name, value in weights.items()
    }
    return {
        name: value if name in own and value.shape == own[name].shape else own.get(name, value) for name, value in moved.items()
    }


def class_axes(family: Family) -> dict[str, ClassAxis]:
    """The axes of its weights and buffers that run over the classes."""
    spec = family.spec
    more = ClassCondition(classes=(*spec.classes, SPARE))
    with torch.random.fork_rng(devices=[]):
        larger = type(family)(family.config, spec.model_copy(update={"condition": more}))
    tables = tuple(name for name, module in family.named_modules() if isinstance(module, nn.Embedding))
    buffers = {name for name, _ in family.named_buffers()}
    there, found = larger.state_dict(), {}
    for name, value in family.state_dict().items():
        for axis, (size, wider) in enumerate(zip(value.shape, there[name].shape, strict=True)):
            if wider > size:
                first = name in buffers or name.startswith(tuple(f"{table}." for table in tables))
                found[name] = ClassAxis(axis, wider - size, first=first)
    return found


def _moved(value: Tensor, at: ClassAxis, known: Sequence[int | None], classes: int) -> Tensor:
    """The weight with its classes in their new places."""
    by_place = value.movedim(at.axis, 0)
    ends = at.each * classes if at.first else len(by_place) - at.each * classes
    before, after = by_place[:ends], by_place[ends:]
    of_class, others = (before, after) if at.first else (after, before)
    of_class = of_class.unflatten(0, (classes, at.each))
    mean = of_class.float().mean(0).to(of_class.dtype)
    moved = torch.stack([mean if place is None else of_class[place] for place in known]).flatten(0, 1)
    parts: list[Any] = [moved, others] if at.first else [others, moved]
    return torch.cat(parts).movedim(0, at.axis).contiguous()
