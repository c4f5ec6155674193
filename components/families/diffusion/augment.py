"""Non-leaky augmentation for small data (Karras et al. 2022, arXiv:2206.00364, appendix F.2): flips and whole-pixel shifts.

The network is told what was done to each image, as extra input planes, and sampling asks for what nothing was done to, so
that no altered image leaks into the samples. The paper adds the labels to the time's embedding.

B batch, C channels, H height, W width.
"""

import torch
from pydantic import Field
from torch import Tensor

from components.core.family import FamilyConfig
from components.core.randomness import uniform

PLANES = 4  # flipped left to right, flipped upside down, shifted down, shifted right


class AugmentConfig(FamilyConfig):
    """When and how far."""

    augment: float = Field(
        default=0.0, ge=0, le=1, description="chance of each change of an image in training; 0.12 in EDM; 0 is off"
    )
    flips: bool = Field(default=True, description="mirror and turn upside down; the network knows which were")
    shift: int = Field(default=1, ge=0, description="pixels an image moves at most; what enters is mirrored")


def augmentation_planes(config: AugmentConfig) -> int:
    """How many input planes the network needs for it."""
    return PLANES if config.augment else 0


def augmented(x_BCHW: Tensor, config: AugmentConfig, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Images with each change made by chance, and what was done as planes_BPHW in [-1, 1]; as they are where it is off."""
    if not config.augment:
        return x_BCHW, None
    (n, _, h, w), device = x_BCHW.shape, x_BCHW.device
    uniform_P2B = uniform((PLANES, 2, n), rng, items=2)
    chosen_PB, amount_PB = uniform_P2B[:, 0] < config.augment, uniform_P2B[:, 1]
    flips_2B = (chosen_PB[:2] & config.flips).long()
    shifts_2B = ((amount_PB[2:] * (2 * config.shift + 1)).floor() - config.shift).long() * chosen_PB[2:]
    rows_BH = _indices(h, flips_2B[1], shifts_2B[0])
    columns_BW = _indices(w, flips_2B[0], shifts_2B[1])
    items_B = torch.arange(n, device=device).view(-1, 1, 1)
    moved_BCHW = x_BCHW.permute(0, 2, 3, 1)[items_B, rows_BH[:, :, None], columns_BW[:, None]].permute(0, 3, 1, 2)
    done_BP = torch.cat([flips_2B, shifts_2B / max(1, config.shift)]).T.to(x_BCHW.dtype)
    return moved_BCHW, done_BP[:, :, None, None].expand(-1, -1, h, w)


def _indices(side: int, flipped_B: Tensor, shift_B: Tensor) -> Tensor:
    """Where each pixel of a line comes from: the line is reversed where flipped, then shifted, and mirrored at its edges."""
    at_BL = torch.arange(side, device=shift_B.device) - shift_B[:, None]
    at_BL = (side - 1 - (side - 1 - at_BL.abs()).abs()).clamp(0, side - 1)
    return torch.where(flipped_B[:, None].bool(), side - 1 - at_BL, at_BL)
