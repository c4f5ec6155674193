"""Transformations of colour, drawn for a whole image as in Karras et al. 2020 (arXiv:2006.06676, appendix B). With v the
direction of grey, of unit length in the space of C channels:

    brightness  x + N(0, 0.2^2)                        saturation  v v^T x + 2^N(0, 1) (I - v v^T) x
    contrast    2^N(0, 0.5^2) x                        hue         x turned about v by any angle
    luma flip   (I - 2 v v^T) x or x, as likely

Where an image has one channel, v v^T x = x: a luma flip turns it negative. Hue and saturation are of three channels only.

B batch, C channels, H height, W width; images in [-1, 1].
"""

import math

import torch
from torch import Tensor

from components.core.randomness import normal, uniform

BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # standard deviations, of the last two that of log2
COLOURS = 3


def brightness(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Add N(0, 0.2^2)."""
    return x_BCHW + BRIGHTNESS * normal(_each(x_BCHW), rng)


def contrast(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Multiply by 2^N(0, 0.5^2)."""
    return x_BCHW * torch.exp2(CONTRAST * normal(_each(x_BCHW), rng))


def luma_flip(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Change the sign of what is grey in it, or not."""
    return torch.where(uniform(_each(x_BCHW), rng) < 0.5, x_BCHW - 2 * _grey(x_BCHW), x_BCHW)


def hue(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Turn colours about grey by any angle t (Rodrigues): x cos t + (v x x) sin t + v v^T x (1 - cos t)."""
    if x_BCHW.shape[1] != COLOURS:
        return x_BCHW
    angle_B111 = (2 * uniform(_each(x_BCHW), rng) - 1) * math.pi
    across_BCHW = (x_BCHW.roll(1, 1) - x_BCHW.roll(-1, 1)) / math.sqrt(COLOURS)  # the vector product of v and x
    return x_BCHW * angle_B111.cos() + across_BCHW * angle_B111.sin() + _grey(x_BCHW) * (1 - angle_B111.cos())


def saturation(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Multiply what is not grey in it by 2^N(0, 1)."""
    if x_BCHW.shape[1] != COLOURS:
        return x_BCHW
    grey_B1HW = _grey(x_BCHW)
    return grey_B1HW + (x_BCHW - grey_B1HW) * torch.exp2(SATURATION * normal(_each(x_BCHW), rng))


def _grey(x_BCHW: Tensor) -> Tensor:
    """v v^T x, the same in all channels: their mean, B1HW."""
    return x_BCHW.mean(1, keepdim=True)


def _each(x_BCHW: Tensor) -> tuple[int, ...]:
    """The shape of one number an image."""
    return (len(x_BCHW), 1, 1, 1)
