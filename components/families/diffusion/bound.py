"""The variational bound of diffusion in discrete steps (Ho et al. 2020, arXiv:2006.11239, eq. 5), variances fixed or learned.

    -log p(x0) <= KL(q(x_T|x0) || N(0, I)) + sum over steps of KL(q(x_u|x_t, x0) || p(x_u|x_t)) - log p(x0|x_1)

u is the level before t, q(x_u|x_t, x0) = N(m(x_t, x0), beta~ I) the posterior of the forward process (eq. 6 and 7), and
p(x_u|x_t) = N(m(x_t, D), Sigma) what the ancestral sampler draws, D the denoised image. With SNR = alpha^2 / sigma^2

    beta~ = sigma_u^2 (1 - SNR_t / SNR_u),   beta = (sigma_t / sigma_u)^2 beta~,   (m - m')^2 / beta~ = (SNR_u - SNR_t) (x0 - D)^2
    Sigma = beta^f beta~^(1 - f)              f learned, or 0 (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15)
    KL    = (w f - 1 + e^(-w f) (1 + (SNR_u - SNR_t) (x0 - D)^2)) / 2,     w = ln(beta / beta~)                   a value

The last step, from the least noise to 8-bit values, is a Gaussian's mass in the bin around each (eq. 13). There beta~ is 0, and
that of the step before it takes its place, as in both papers' code.

B batch, C channels, H height, W width, T levels of the chain, K steps drawn of it.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from components.core.randomness import normal, uniform
from components.families.diffusion.sampling import Point, ancestral

# x_BCHW and the time_B that the denoiser knows its level by -> the denoised image, and f or None
Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
BIN = 1 / 255  # half the distance of two 8-bit values in data units
DRAWN_AS_LIKELY = 0.9  # share of the drawn steps that fall where they matter for Gaussian data; the rest falls evenly


class Chain(nn.Module):
    """The steps of an ancestral sampler over the given levels, from the least noise to the most; and their bound.

    `deviation` of the data says which steps matter most: only how exact an estimate is depends on it.
    """

    table_T5: Tensor  # of each level: time, alpha, sigma, SNR_u - SNR_t, w / 2
    likely_T: Tensor
    below_T: Tensor

    def __init__(self, levels: Sequence[Point], *, deviation: float) -> None:
        super().__init__()
        ratios = [(level.alpha / level.sigma) ** 2 for level in levels]
        gains = [0.0, *(before - after for before, after in pairwise(ratios))]
        widens = [0.0, *(math.log(now.sigma / before.sigma) for before, now in pairwise(levels))]
        rows = [(*level, gain, wide) for level, gain, wide in zip(levels, gains, widens, strict=True)]
        self.register_buffer("table_T5", torch.tensor(rows, dtype=torch.float64), persistent=False)
        least = ancestral(levels[1], levels[0]).noise if len(levels) > 1 else levels[0].sigma
        self.decoder = (math.log(least), math.log(levels[0].sigma / least))
        # Of Gaussian data the expected KL of a step is in proportion to this.
        each = [gain / (1 / deviation**2 + ratio) for gain, ratio in zip(gains, ratios, strict=True)]
        matters_T = torch.tensor(each, dtype=torch.float64)
        even_T = (torch.arange(len(levels)) > 0) / max(1, len(levels) - 1)
        likely_T = DRAWN_AS_LIKELY * matters_T / max(sum(each), 1e-12) + (1 - DRAWN_AS_LIKELY) * even_T
        self.register_buffer("likely_T", likely_T, persistent=False)
        self.register_buffer("below_T", likely_T.cumsum(0), persistent=False)

    def step(self, k_B: Tensor, x0_BCHW: Tensor, denoised_BCHW: Tensor, share_BCHW: Tensor | None) -> Tensor:
        """Nats_BCHW of the step from level k: a divergence, and of level 0 the cost of the 8-bit values themselves."""
        gain, wide = (self.table_T5[:, column].float().index_select(0, k_B).view(-1, 1, 1, 1) for column in (3, 4))
        error = gain * (x0_BCHW - denoised_BCHW).square()
        share = torch.zeros_like(error) if share_BCHW is None else share_BCHW.float()
        stretched = 2 * wide * share
        divergence = 0.5 * (stretched + torch.expm1(-stretched) + (-stretched).exp() * error)
        (low, widens), last = self.decoder, k_B.view(-1, 1, 1, 1) == 0
        # Elsewhere an image may lie so far off that the slope of its mass is none; and 0 times that is none, too.
        decoded = -log_mass(x0_BCHW, torch.where(last, denoised_BCHW, x0_BCHW), low + widens * share)
        return torch.where(last, decoded, divergence)

    def prior(self, x0_BCHW: Tensor) -> Tensor:
        """Nats_B by which the noisiest level differs from N(0, I)."""
        alpha, sigma = (float(part) for part in self.table_T5[-1, 1:3])
        values = math.prod(x0_BCHW.shape[1:])
        nats_B: Tensor = 0.5 * (alpha**2 * x0_BCHW.square().flatten(1).sum(1) + values * (sigma**2 - 1 - 2 * math.log(sigma)))
        return nats_B

    def cost(self, x0_BCHW: Tensor, denoise: Denoise, rng: torch.Generator, *, draws: int) -> Tensor:
        """Nats_B, an estimate of the bound without bias: the prior's term and the last step's, and of the others `draws`, each
        of a stratum, or all of them where they are no more."""
        total_B = self.prior(x0_BCHW) + self._at(torch.zeros(len(x0_BCHW), dtype=torch.int64), x0_BCHW, denoise, rng)
        steps = len(self.table_T5) - 1
        if steps <= draws:
            for k in range(1, steps + 1):
                total_B = total_B + self._at(torch.full((len(x0_BCHW),), k), x0_BCHW, denoise, rng)
            return total_B
        for stratum in range(draws):
            at_B = ((stratum + uniform(x0_BCHW.shape[:1], rng)) / draws).double()
            k_B = torch.searchsorted(self.below_T, at_B, right=True).clamp(1, steps)
            weight_B = 1 / (draws * self.likely_T.index_select(0, k_B))
            total_B = total_B + weight_B.float() * self._at(k_B, x0_BCHW, denoise, rng)
        return total_B

    def _at(self, k_B: Tensor, x0_BCHW: Tensor, denoise: Denoise, rng: torch.Generator) -> Tensor:
        """Nats_B of one step an item, at a noise drawn for it."""
        k_B = k_B.to(x0_BCHW.device)
        time_B, alpha_B, sigma_B = self.table_T5[:, :3].float().index_select(0, k_B).unbind(1)
        noise_BCHW = normal(x0_BCHW.shape, rng)
        x_BCHW = alpha_B.view(-1, 1, 1, 1) * x0_BCHW + sigma_B.view(-1, 1, 1, 1) * noise_BCHW
        return self.step(k_B, x0_BCHW, *denoise(x_BCHW, time_B)).flatten(1).sum(1)


def log_mass(x_BCHW: Tensor, mean_BCHW: Tensor, log_deviation: Tensor) -> Tensor:
    """ln of a Gaussian's mass in the bin around each 8-bit value (Ho et al. 2020, eq. 13); the outermost reach to infinity."""
    away, scale = (x_BCHW - mean_BCHW).abs(), (-log_deviation).exp()
    near, far = scale * (BIN - away), scale * (-BIN - away)  # the bin's edges on the lower side, where ln Phi is exact far out
    log_near, log_far = torch.special.log_ndtr(near), torch.special.log_ndtr(far)
    inside = log_near + torch.log(-torch.expm1((log_far - log_near).clamp(max=-1e-7)))  # ln(Phi(near) - Phi(far))
    beyond = x_BCHW.sign() * (x_BCHW - mean_BCHW) > 0  # the mean is on the inner side of an outermost value
    outermost = torch.where(beyond, log_near, torch.special.log_ndtr(-far))
    return torch.where(x_BCHW.abs() > 0.999, outermost, inside)
