"""The networks inside couplings. Each ends in zeros, so that every coupling starts as the identity.

B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor, nn

from components.families.blocks import ResidualBlock, group_norm


class ZeroConv(nn.Module):
    """A 3x3 convolution of zeros whose output has a learned gain exp(3 g) for each channel (arXiv:1807.03039, sec. 3.3)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.gain_C11 = nn.Parameter(torch.zeros(channels_out, 1, 1))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv(x_BCHW) * (3 * self.gain_C11).exp()
        return out


def convolutions(channels_in: int, channels_out: int, *, width: int) -> nn.Module:
    """Glow's network: 3x3, 1x1, and a 3x3 of zeros, with ReLU between (arXiv:1807.03039, sec. 5)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        ZeroConv(width, channels_out),
    )


def residual(channels_in: int, channels_out: int, *, width: int, blocks: int) -> nn.Module:
    """RealNVP's network: residual blocks of one width (arXiv:1605.08803, sec. 3.7); group normalisation sees one item alone."""
    return nn.Sequential(
        nn.Conv2d(channels_in, width, 3, padding=1),
        *(ResidualBlock(width, width) for _ in range(blocks)),
        group_norm(width),
        nn.SiLU(),
        ZeroConv(width, channels_out),
    )
