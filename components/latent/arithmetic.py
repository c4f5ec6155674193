"""Attributes as directions: the mean code of images that have one, less the mean code of images that have not (Radford et al.
2016, arXiv:1511.06434, section 6.3.2; Larsen et al. 2016, arXiv:1512.09300, section 4.2), added to the codes of other images.

    v = mean_{i in A} z_i - mean_{j in B} z_j,    x' = decode(encode(x) + s v)

N items, S strengths, U the shape of a code.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from components.core.arrays import Stored
from components.core.record import Record
from components.latent.space import Cloud, Items, LatentSpace


class Attribute(Record):
    """A direction: how many images it comes from, its length, and how far codes lie from their mean (root mean square)."""

    plus: int
    minus: int
    norm: float
    spread: float


def attribute(plus_AU: Tensor, minus_BU: Tensor, around: Cloud) -> tuple[Tensor, Attribute]:
    """The direction v_U from the codes without the attribute to those with it."""
    v_U = plus_AU.mean(0) - minus_BU.mean(0)
    norm, spread = float(v_U.norm()), float(around.std_U.square().sum().sqrt())
    return v_U, Attribute(plus=len(plus_AU), minus=len(minus_BU), norm=norm, spread=spread)


def add(space: LatentSpace, items: Items, v_U: Tensor, *, strengths: Sequence[float]) -> Stored:
    """Every item with the attribute at every strength, uint8 [N * S, H, W, C], an item a row. A class it is told stays."""
    z_NU, s_S = space.encode(items), torch.tensor(strengths)
    z_NSU = z_NU[:, None] + s_S.view(-1, *[1] * v_U.ndim) * v_U
    labels = None if items.labels is None else items.labels.repeat(len(strengths))
    return space.decode(z_NSU.flatten(0, 1), labels)


def beside_originals(changed: Stored, items: Items) -> Stored:
    """Each row of `changed` after the image that it was made of."""
    n, shape = len(items), items.images.shape[1:]
    return np.concatenate([items.images[:, None], changed.reshape(n, -1, *shape)], axis=1).reshape(-1, *shape)
