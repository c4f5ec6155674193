"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738): D sees real and generated images through the same random
changes, and G's gradient passes through them. Each draws for every image on its own, from the given generator.

B batch, C channels, H height, W width; images in [-1, 1].
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from components.core.randomness import integers, uniform


def shift(x_BCHW: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Move each image by whole pixels, up to this share of its shorter side, the edge repeated."""
    pixels = int(share * min(x_BCHW.shape[2:]))
    if not pixels:
        return x_BCHW
    b, _, h, w = x_BCHW.shape
    padded = F.pad(x_BCHW, (pixels,) * 4, mode="replicate")
    offset_2B = integers(0, 2 * pixels + 1, (2, b), rng, items=1)
    rows_BH = offset_2B[0, :, None] + torch.arange(h, device=x_BCHW.device)
    columns_BW = offset_2B[1, :, None] + torch.arange(w, device=x_BCHW.device)
    batch_B11 = torch.arange(b, device=x_BCHW.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch_B11, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)


def colour(x_BCHW: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Change brightness by up to 0.5, saturation by 0 to 2 and contrast by 0.5 to 1.5, as in the paper, at strength 1."""
    if not strength:
        return x_BCHW
    amount_3B111 = strength * uniform((3, len(x_BCHW), 1, 1, 1), rng, items=1).sub(0.5)
    brightness, saturation, contrast = amount_3B111.unbind()
    x_BCHW = x_BCHW + brightness
    grey_B1HW = x_BCHW.mean(1, keepdim=True)
    x_BCHW = grey_B1HW + (x_BCHW - grey_B1HW) * (1 + 2 * saturation)
    mean_B111 = x_BCHW.mean((1, 2, 3), keepdim=True)
    return mean_B111 + (x_BCHW - mean_B111) * (1 + contrast)


def cutout(x_BCHW: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Set a rectangle of this share of either side to zero, its centre anywhere in the image; 0.5 in the paper."""
    _, _, h, w = x_BCHW.shape
    high, wide = int(share * h + 0.5), int(share * w + 0.5)
    if not (high and wide):
        return x_BCHW
    top_B11, left_B11 = (
        integers(-(size // 2), side - (size - 1) // 2, (len(x_BCHW), 1, 1), rng) for size, side in ((high, h), (wide, w))
    )
    rows_H1, columns_W = torch.arange(h, device=x_BCHW.device)[:, None], torch.arange(w, device=x_BCHW.device)
    inside_BHW = (rows_H1 >= top_B11) & (rows_H1 < top_B11 + high) & (columns_W >= left_B11) & (columns_W < left_B11 + wide)
    return x_BCHW * ~inside_BHW[:, None]
