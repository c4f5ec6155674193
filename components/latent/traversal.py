"""What each unit of a code does: it alone moves over the range that the codes of the data have, the rest stays.

Units come in the order of their variance over the data. A unit is active when Var_x(E[z|x]) > 0.01 (Burda et al. 2016,
arXiv:1509.00519, section 4.2); of one that is not, the decoder has learnt nothing.

U units of a code, K of them shown, T places of each.
"""

import torch

from components.core.arrays import Stored
from components.core.family import ACTIVE
from components.core.record import Record
from components.latent.space import Cloud, Items, LatentSpace

SIGMAS = 3.0


class Unit(Record):
    """One unit: its place in the flattened code and the standard deviation of the data's codes along it."""

    unit: int
    std: float


class Traversal(Record):
    """What was moved: `units` rows, each from -`sigmas` to `sigmas` standard deviations around the mean."""

    units: tuple[Unit, ...]
    units_active: int
    units_total: int
    sigmas: float


def traverse(space: LatentSpace, item: Items, around: Cloud, *, units: int, points: int) -> tuple[Stored, Traversal]:
    """One image seen through its most active units, uint8 [K * T, H, W, C], a unit a row.

    `item` holds that one image. Fewer than `units` rows when a code has no more.
    """
    mean_U, std_U = around.mean_U.flatten(), around.std_U.flatten()
    chosen_K = std_U.argsort(descending=True, stable=True)[:units]
    z_1U = space.encode(item)
    z_KTU = z_1U.flatten().repeat(len(chosen_K), points, 1)
    t_T = torch.linspace(-SIGMAS, SIGMAS, points)
    for row, unit in enumerate(chosen_K.tolist()):
        z_KTU[row, :, unit] = mean_U[unit] + t_T * std_U[unit]
    count = len(chosen_K) * points
    labels = None if item.labels is None else item.labels.repeat(count)
    shown = tuple(Unit(unit=unit, std=float(std_U[unit])) for unit in chosen_K.tolist())
    active = int((std_U.square() > ACTIVE).sum())
    images = space.decode(z_KTU.view(count, *z_1U.shape[1:]), labels)
    return images, Traversal(units=shown, units_active=active, units_total=len(std_U), sigmas=SIGMAS)
