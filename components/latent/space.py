"""The latent space of a family: items to codes and back, batch by batch, and where the codes of the data lie.

N items; z_NU codes with the shape [U...] that the family gives them: a vector, a map, or all the
values of the image; float32, or int64 for the entries of a codebook.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.core.errors import InputError
from components.core.family import Family, to_data_units
from components.core.protocols import ItemSplit, Stored
from components.core.records import ClassCondition
from components.core.units import to_stored

BATCH = 100
Labels = npt.NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Items:
    """Stored items, [N, *stored_shape], and their classes where they have some."""

    images: Stored
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.images)


def take(split: ItemSplit, indices: npt.ArrayLike) -> Items:
    """The items of a split at `indices`. Raises InputError for an index that it does not have."""
    chosen = np.asarray(indices, np.int64)
    outside = chosen[(chosen < 0) | (chosen >= len(split))]
    if len(outside):
        raise InputError(f"item {outside[0]} of {len(split)}", allowed=f"0 to {len(split) - 1}")
    return Items(split.take(chosen), None if split.labels is None else split.labels[chosen])


def evenly(count: int, *, at_most: int) -> npt.NDArray[np.int64]:
    """Indices at even distances over so many items; all of them when there are no more than `at_most`."""
    n = min(at_most, count)
    return np.arange(n) * count // n


def spread_over(split: ItemSplit, *, at_most: int) -> Items:
    """The items at these places."""
    return take(split, evenly(len(split), at_most=at_most))


class LatentSpace:
    """Encodes and decodes with one trained family, in evaluation mode on `device`.

    Of a model with a codebook the codes are integers, or, with `vectors`, what its encoder gives before the nearest entries are
    taken: real numbers, to walk between and to add; decoding takes the nearest entries. Of any other model both are the same.

    Raises InputError when the family's card claims no latent space.
    """

    def __init__(self, family: Family, *, device: str = "cpu", vectors: bool = False) -> None:
        self.name = f"{family.card.family}/{family.card.variant}"
        if not family.card.latent:
            raise InputError(
                f"{self.name} has no latent space: it cannot encode images", allowed="models whose card says latent: true"
            )
        self.family = family.eval().to(device)
        self.device = device
        self.vectors = vectors and hasattr(family, "embed")

    @torch.no_grad()
    def encode(self, items: Items) -> Tensor:
        """The codes z_NU on the CPU, float32 or int64. Raises InputError when the model needs classes and there are none."""
        model: Any = self.family  # encode and decode are there because the card says so
        encode = model.embed if self.vectors else model.encode
        return torch.cat([encode(x_BCHW, labels_B).cpu() for x_BCHW, labels_B in batches(self.family, items, self.device)])

    @torch.no_grad()
    def decode(self, z_NU: Tensor, labels: Labels | None) -> Stored:
        """The items of codes, [N, *stored_shape]."""
        model: Any = self.family
        labels_N = _labels(self.family, labels, self.device)
        parts = []
        for at in range(0, len(z_NU), BATCH):
            labels_B = None if labels_N is None else labels_N[at : at + BATCH]
            z_BU = z_NU[at : at + BATCH].to(self.device)
            x_BCHW = model.decode(model.snap(z_BU) if self.vectors else z_BU, labels_B)
            parts.append(to_stored(x_BCHW.float().cpu().numpy(), self.family.spec.item))
        return np.concatenate(parts)

    def rebuild(self, items: Items) -> Stored:
        """decode(encode(x)), [N, *stored_shape]."""
        return self.decode(self.encode(items), items.labels)


@dataclass(frozen=True)
class Cloud:
    """Mean and standard deviation of each unit over the codes of the data, float32 [U...]: the aggregate posterior, as far as
    `encode` shows it (of a VAE: its means)."""

    mean_U: Tensor
    std_U: Tensor


def cloud(z_NU: Tensor) -> Cloud:
    """Where real-valued codes lie."""
    return Cloud(z_NU.mean(0), z_NU.std(0, unbiased=False))


def batches(family: Family, items: Items, device: str) -> Iterator[tuple[Tensor, Tensor | None]]:
    """x_BCHW in data units, and labels_B where the family takes classes."""
    labels_N = _labels(family, items.labels, device)
    for at in range(0, len(items), BATCH):
        x_BCHW = to_data_units(items.images[at : at + BATCH], family.spec.item).to(device)
        yield x_BCHW, None if labels_N is None else labels_N[at : at + BATCH]


def told_class(family: Family) -> bool:
    """Whether a family is told the class of an item. Raises InputError for one that is asked by something else."""
    condition = family.spec.condition
    if condition is None or isinstance(condition, ClassCondition):
        return condition is not None
    raise InputError(
        f"the model is asked by {condition.asked}, and nothing here looks into such a space yet",
        allowed="models of conditioning none or class",
    )


def _labels(family: Family, labels: Labels | None, device: str) -> Tensor | None:
    if not told_class(family):
        return None
    if labels is None:
        raise InputError(
            "the model takes the class of an item, and these have none",
            do=f"put them into folders named by class: {', '.join(family.spec.classes[:10])}",
        )
    return torch.from_numpy(labels).to(device)
