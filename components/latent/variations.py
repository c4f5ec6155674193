"""Others like given items, by a family whose card says that it `varies`: what an item is about stays, the rest is drawn anew
(Ramesh et al. 2022, arXiv:2204.06125, section 3.1).

N items, K seeds; x in data units, from -1 to 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.core.arrays import Stored
from components.core.errors import InputError
from components.core.family import Family, to_data_units
from components.core.noise import draw
from components.core.record import Record
from components.core.units import to_stored
from components.latent.space import BATCH, Items

NOISE = "noise"  # the input of a sampler that its variations take, too


class Varied(Record):
    """Root mean square differences in data units: of variations from their item, from one another, and of items from each other,
    which says how much either is."""

    from_item: float
    from_one_another: float | None  # of one seed None
    of_items: float | None  # of one item None


def vary(family: Family, items: Items, *, seeds: Sequence[int], device: str = "cpu") -> tuple[Stored, Varied]:
    """A variation of each item by each seed, [N, K, *stored_shape]. The same items and seeds give the same.

    Raises InputError for a family that has none.
    """
    card = family.card
    if not card.varies:
        what = f"{card.family}/{card.variant} draws no variations of an image"
        raise InputError(what, allowed="models whose card says varies: true", do="produce one by override: {variant: unclip}")
    model: Any = family.eval().to(device)
    draws = model.variations()  # there, because the card says so
    item = family.spec.item
    x_NCHW = to_data_units(items.images, item)
    noise_KCHW = torch.from_numpy(draw(family.noise_inputs(), seeds)[NOISE])
    with torch.no_grad():
        rows = [_of_one(draws, x_CHW, noise_KCHW, device) for x_CHW in x_NCHW]
    made_NKCHW = torch.stack(rows)
    stored = to_stored(made_NKCHW.flatten(0, 1).numpy(), item)
    return stored.reshape(len(items), len(seeds), *stored.shape[1:]), _told(x_NCHW, made_NKCHW)


def _of_one(draws: Any, x_CHW: Tensor, noise_KCHW: Tensor, device: str) -> Tensor:
    """In batches of one size, so that an item's bytes depend on no other."""
    parts = [noise_BCHW.to(device) for noise_BCHW in noise_KCHW.split(BATCH)]
    return torch.cat([draws(part, x_CHW.to(device).expand_as(part)).float().cpu() for part in parts])


def _told(x_NCHW: Tensor, made_NKCHW: Tensor) -> Varied:
    return Varied(
        from_item=_rms(made_NKCHW - x_NCHW[:, None]),
        from_one_another=_apart(made_NKCHW) if made_NKCHW.shape[1] > 1 else None,
        of_items=_apart(x_NCHW[None]) if len(x_NCHW) > 1 else None,
    )


def _apart(x_RKCHW: Tensor) -> float:
    """Between all pairs of a row: twice the variance is the mean square of a difference of two."""
    count = x_RKCHW.shape[1]
    return float(np.sqrt(2 * float(x_RKCHW.var(dim=1, unbiased=False).mean()) * count / (count - 1)))


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
