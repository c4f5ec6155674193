"""The Laplacian pyramid (Burt & Adelson 1983), and a distance between images that counts edges of every size alike.

    g_0 = x,   g_{j+1} = means of 2x2 pixels of g_j,   P_j = g_j - up(g_{j+1})
    d(x, y) = sum_j mean |P_j(x) - P_j(y)|                        (Bojanowski et al. 2018, arXiv:1707.05776, section 3.2)

An error over a wide area costs a squared error much and a lost edge little; here each size of detail has a term of its own. It
was learnt from nothing, so it knows edges and not what an image shows: it is no perceptual distance of trained features.

B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE_MIN = 4  # pixels: what is so small is not halved


def laplacian_pyramid(x_BCHW: Tensor) -> list[Tensor]:
    """The levels P_j, the finest first; the last is what is left of the image."""
    levels = []
    while min(x_BCHW.shape[2:]) > SIDE_MIN:
        half_BCHW = F.avg_pool2d(x_BCHW, 2, ceil_mode=True, count_include_pad=False)
        levels.append(x_BCHW - F.interpolate(half_BCHW, size=x_BCHW.shape[2:], mode="bilinear", align_corners=False))
        x_BCHW = half_BCHW
    return [*levels, x_BCHW]


def laplacian_distance(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """d(x, y), a scalar: the mean over the images. The pyramid is linear, so it is that of the difference."""
    return torch.stack([level.abs().mean() for level in laplacian_pyramid(y_BCHW - x_BCHW)]).sum()
