"""Spherical interpolation (Shoemake 1985, 'Animating rotation with quaternion curves', eq. for Slerp; White 2016,
arXiv:1609.04468, section 2.1, for latent spaces): high-dimensional Gaussian codes lie on a shell, which a straight line leaves.

    slerp(a, b; t) = |.|_t (sin((1 - t) w) / sin w  a/|a|  +  sin(t w) / sin w  b/|b|),   cos w = a.b / (|a| |b|)
    |.|_t = (1 - t) |a| + t |b|

The direction turns at constant speed; the norm, where those of the ends differ, goes linearly. The circle is drawn around the
mean of the data's codes, which is about 0 where a prior N(0, I) holds them there.

T points on a path, U the shape of a code, H, W, C of an image.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from components.core.errors import InputError
from components.core.family import Family
from components.core.noise import draw
from components.core.protocols import Stored
from components.core.record import Record
from components.core.units import to_stored
from components.latent.space import Cloud, Items, LatentSpace, told_class

STRAIGHT = 1e-6  # of sin w: below it the ends lie in one direction, or in opposite ones, and no circle is given
NORMS_ALIKE = 1.05


class Interpolation(Record):
    """One path: the angle between its ends and their norms, seen from where the circle is drawn around."""

    angle_degrees: float
    norms: tuple[float, float]

    @property
    def sentence(self) -> str:
        """For a person, with a note where the norms differ."""
        one, other = self.norms
        note = "; they differ, so the norm goes linearly" if max(one, other) > NORMS_ALIKE * min(one, other) else ""
        return f"{self.angle_degrees:.0f} degrees apart, norms {one:.3g} and {other:.3g}{note}"


def slerp(a_U: Tensor, b_U: Tensor, t_T: Tensor) -> Tensor:
    """Points [T, U...] on the way from a_U (t = 0) to b_U (t = 1).

    Where the two lie in one line with the origin the way is straight.
    """
    a, b, t_T1 = a_U.double().flatten(), b_U.double().flatten(), t_T.double()[:, None]
    norms = a.norm(), b.norm()
    w = _angle(a, b)
    if math.sin(w) < STRAIGHT:
        path = torch.lerp(a, b, t_T1)
    else:
        direction = (torch.sin((1 - t_T1) * w) * (a / norms[0]) + torch.sin(t_T1 * w) * (b / norms[1])) / math.sin(w)
        path = torch.lerp(*norms, t_T1) * direction
    return path.view(-1, *a_U.shape).to(a_U.dtype)


def between_items(space: LatentSpace, ends: Items, around: Cloud, *, points: int) -> tuple[Stored, Interpolation]:
    """The way from one image to another, uint8 [T, H, W, C]: both ends are the model's own rebuilding of them.

    A model that is told classes is told that of the nearer end.
    """
    z_2U = space.encode(ends) - around.mean_U
    t_T = torch.linspace(0, 1, points)
    labels = None if ends.labels is None else ends.labels[(t_T > 0.5).long().numpy()]
    return space.decode(slerp(z_2U[0], z_2U[1], t_T) + around.mean_U, labels), _told(z_2U)


def gaussian(family: Family) -> bool:
    """Whether a family's samples can be walked between through the noise itself."""
    return any(noise.distribution == "normal" for noise in family.noise_inputs())


def samples(family: Family, seeds: Sequence[int], *, label: int = 0, device: str = "cpu") -> Items:
    """The samples of some seeds, for `between_items`: of families whose noise chooses among integers."""
    images = _drawn(family, [torch.from_numpy(value) for value in draw(family.noise_inputs(), seeds).values()], label, device)
    return Items(images, np.full(len(images), label) if told_class(family) else None)


def between_seeds(
    family: Family, seeds: tuple[int, int], *, points: int, label: int = 0, device: str = "cpu"
) -> tuple[Stored, Interpolation]:
    """The way from one sample to another through the sampler's noise, uint8 [T, H, W, C].

    Gaussian noise turns from one end to the other; uniform noise chooses (a component, a category), so it is that of the nearer
    end. What is told is of the first Gaussian input. Raises InputError when there is none.
    """
    inputs = family.noise_inputs()
    turning = [noise.distribution == "normal" for noise in inputs]
    if not gaussian(family):
        raise InputError(
            f"{family.card.family}/{family.card.variant} draws its samples with uniform noise, which chooses among integers",
            allowed="a model with Gaussian noise",
        )
    ends = [torch.from_numpy(drawn_2U) for drawn_2U in draw(inputs, seeds).values()]
    t_T = torch.linspace(0, 1, points)
    arguments = [
        slerp(end_2U[0], end_2U[1], t_T) if turns else end_2U[(t_T > 0.5).long()]
        for end_2U, turns in zip(ends, turning, strict=True)
    ]
    return _drawn(family, arguments, label, device), _told(ends[turning.index(True)])


def framed(path: Stored, ends: Items) -> Stored:
    """A path between the two images it was drawn for."""
    return np.concatenate([ends.images[:1], path, ends.images[1:]])


@torch.no_grad()
def _drawn(family: Family, noise: list[Tensor], label: int, device: str) -> Stored:
    """The sampler's images of one class, uint8 [N, H, W, C]."""
    arguments = [value.to(device) for value in noise]
    if told_class(family):
        arguments.append(torch.full((len(noise[0]),), label, device=device))
    sampler = family.to(device).sampler().eval().to(device)
    return to_stored(sampler(*arguments).float().cpu().numpy(), family.spec.item)


def _told(z_2U: Tensor) -> Interpolation:
    a, b = z_2U.double().flatten(1)
    return Interpolation(angle_degrees=math.degrees(_angle(a, b)), norms=(float(a.norm()), float(b.norm())))


def _angle(a: Tensor, b: Tensor) -> float:
    """0 to pi, and 0 for a vector of norm 0; exact for small angles too, which the arc cosine is not."""
    if float(a.norm()) == 0 or float(b.norm()) == 0:
        return 0.0
    one, other = a * b.norm(), b * a.norm()
    return 2 * math.atan2(float((one - other).norm()), float((one + other).norm()))
