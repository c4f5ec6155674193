"""From 8-bit values k to real ones (k + u) / 256, u in [0, 1): a density of the latter bounds the mass of the former.

    log P(k) >= E_q(u|k)[log p((k + u) / 256) - log q(u|k)] - D log 256          (Theis et al. 2016, arXiv:1511.01844, eq. 3)

q uniform, or learned: u = sigmoid of a small flow of normal noise, conditioned on the image (Flow++, Ho et al. 2019,
arXiv:1902.00275, eq. 8 to 12).

B batch, C channels, H height, W width, D = C H W.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.randomness import normal, uniform
from components.core.records import DataSpec
from components.families.flow.layers import Chain, CheckerboardCoupling
from components.families.flow.networks import Residual, convolutions
from components.families.images import image_of

NEARLY_UNIFORM = 1.7  # the deviation at which the sigmoid of a normal variable is nearest to uniform


class Uniform(nn.Module):
    """u ~ U[0, 1)."""

    def forward(self, x_BCHW: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """u_BCHW and log q(u|x)_B = 0."""
        return uniform(x_BCHW.shape, rng), x_BCHW.new_zeros(len(x_BCHW))


class Variational(nn.Module):
    """u = sigmoid(g(eps; x)) with couplings g and eps ~ N(0, I); close to uniform at the start."""

    def __init__(self, spec: DataSpec, *, width: int, depth: int, bound: float) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(image_of(spec).channels, width, 3, padding=1), Residual(width))
        make = lambda channels_in, channels_out: convolutions(channels_in, channels_out, width=width)  # noqa: E731
        own_CHW = torch.ones(spec.shape)
        self.couplings = Chain(
            [CheckerboardCoupling(own_CHW, make, odd=bool(k % 2), bound=bound, given=width) for k in range(2 * depth)]
        )

    def forward(self, x_BCHW: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """u_BCHW and log q(u|x)_B."""
        eps_BCHW = normal(x_BCHW.shape, rng)
        log_q_B = (-0.5 * eps_BCHW**2 - 0.5 * math.log(2 * math.pi) - math.log(NEARLY_UNIFORM)).flatten(1).sum(1)
        a_BCHW, log_det_B = self.couplings(NEARLY_UNIFORM * eps_BCHW, self.features(x_BCHW))
        log_slope_B = (F.logsigmoid(a_BCHW) + F.logsigmoid(-a_BCHW)).flatten(1).sum(1)
        return torch.sigmoid(a_BCHW), log_q_B - log_det_B - log_slope_B
