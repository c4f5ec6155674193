"""The networks inside couplings. Each ends in zeros, so that every coupling starts as the identity.

B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor, nn

from components.families.dense import Dense


class ZeroConv(nn.Conv2d):
    """A 3x3 convolution that starts at zero (arXiv:1807.03039, sec. 3.3)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Residual(nn.Module):
    """x + f(x), f of two pre-activated 3x3 convolutions without normalisation: the flow's own layers normalise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = x_BCHW + self.second(torch.relu(self.first(torch.relu(x_BCHW))))
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
    """RealNVP's network: residual blocks of one width (He et al. 2016) after a 3x3 convolution (arXiv:1605.08803, sec. 3.7)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, width, 3, padding=1),
        *(Residual(width) for _ in range(blocks)),
        nn.ReLU(),
        ZeroConv(width, channels_out),
    )


class PlaceDense(nn.Sequential):
    """The network of a coupling where all values stand at one place: residual blocks of linear layers."""

    def __init__(self, channels_in: int, channels_out: int, *, width: int, blocks: int) -> None:
        network = Dense(channels_in, channels_out, width=width, blocks=blocks, norm=nn.Identity, activation=nn.ReLU)
        head = network[-1]
        assert isinstance(head, nn.Linear)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        super().__init__(network, nn.Unflatten(1, (channels_out, 1, 1)))
