"""Geometric transformations of images about their centre, drawn as in Karras et al. 2020 (arXiv:2006.06676, appendix B), and the
resampling by which any number of them is done at once.

    x'(q) = x(A q),   A = T_1^-1 T_2^-1 ... T_n^-1        for the transformations T_1 to T_n, one after another

A pixel's place q = (column, row, 1) is counted in pixels from the centre. What lies outside the image is its reflection. Between
pixels x is bilinear, where the paper filters with wavelets: at scales near one there is hardly a difference. Linear in x, so it
can be differentiated any number of times. The distributions are those of their own inverses: A's factors are drawn as T is.

B batch, C channels, H height, W width.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from components.core.randomness import normal, uniform

SCALE = 0.2  # standard deviation of log2 of a scale
TRANSLATION = 0.125  # standard deviation, as a share of the side

Drawn = Callable[[tuple[int, int, int], torch.Generator], Tensor]  # (B, H, W) -> A_B33


def scale(size_BHW: tuple[int, int, int], rng: torch.Generator) -> Tensor:
    """Both sides by 2^N(0, 0.2^2)."""
    factor_B = torch.exp2(SCALE * normal((size_BHW[0],), rng))
    return _matrix(factor_B, 0, 0, 0, factor_B, 0)


def stretch(size_BHW: tuple[int, int, int], rng: torch.Generator) -> Tensor:
    """The width by 2^N(0, 0.2^2), and the height by its inverse."""
    factor_B = torch.exp2(SCALE * normal((size_BHW[0],), rng))
    return _matrix(factor_B, 0, 0, 0, 1 / factor_B, 0)


def turn(size_BHW: tuple[int, int, int], rng: torch.Generator) -> Tensor:
    """By any angle."""
    angle_B = (2 * uniform((size_BHW[0],), rng) - 1) * math.pi
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    return _matrix(cos_B, -sin_B, 0, sin_B, cos_B, 0)


def translate(size_BHW: tuple[int, int, int], rng: torch.Generator) -> Tensor:
    """By N(0, 0.125^2) of either side, between pixels too."""
    b, h, w = size_BHW
    right_B, down_B = TRANSLATION * w * normal((b,), rng), TRANSLATION * h * normal((b,), rng)
    return _matrix(torch.ones_like(right_B), 0, right_B, 0, 1, down_B)


def resample(x_BCHW: Tensor, a_B33: Tensor) -> Tensor:
    """x(A q) for every pixel q; x itself, to the bit, where A is the identity."""
    b, c, h, w = x_BCHW.shape
    rows_H, columns_W = (torch.arange(n, device=x_BCHW.device) - (n - 1) / 2 for n in (h, w))
    rows_N, columns_N = rows_H.repeat_interleave(w), columns_W.repeat(h)
    column_BN, row_BN = (a_B33[:, i, :1] * columns_N + a_B33[:, i, 1:2] * rows_N + a_B33[:, i, 2:] for i in (0, 1))
    left, right, across_BN = _between(column_BN + (w - 1) / 2, w)
    above, below, down_BN = _between(row_BN + (h - 1) / 2, h)
    flat_BCN = x_BCHW.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat_BCN.gather(2, (row * w + column)[:, None].expand(b, c, h * w))

    across_B1N, down_B1N = across_BN[:, None], down_BN[:, None]
    upper_BCN = at(above, left) * (1 - across_B1N) + at(above, right) * across_B1N
    lower_BCN = at(below, left) * (1 - across_B1N) + at(below, right) * across_B1N
    return (upper_BCN * (1 - down_B1N) + lower_BCN * down_B1N).view(b, c, h, w)


def product(a_B33: Tensor, b_B33: Tensor) -> Tensor:
    """A B, in full precision: a matrix product has less where training has."""
    return (a_B33[:, :, :, None] * b_B33[:, None]).sum(2)


def _between(place: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels between which a place lies, once what is outside is reflected at the outermost pixels; and how far from the
    first it is."""
    period = max(2 * (side - 1), 1)
    place = place.remainder(period)
    place = torch.minimum(place, period - place).clamp(0, side - 1)
    first = place.floor()
    return first.long(), (first + 1).clamp(max=side - 1).long(), place - first


def _matrix(first_B: Tensor, *others_5: Tensor | float) -> Tensor:
    """A_B33 of its two upper rows."""
    others = [each if isinstance(each, Tensor) else torch.full_like(first_B, each) for each in (*others_5, 0, 0, 1)]
    return torch.stack([first_B, *others], dim=1).view(-1, 3, 3)
