"""The small autoencoder under latent diffusion (Rombach et al. 2022, arXiv:2112.10752, sec. 3.1, KL-regularised).

    q(z|x) = N(mu(x), diag exp(logvar(x))),    loss = mean |x - x^|^2 + weight mean KL(q(z|x) || N(0, I))

and the terms for large images of families/two_stages.py. The weight is slight: the codes keep whatever scale they like, and that
scale is measured for the prior, each channel's own.

B batch, C channels, H height, W width, Z channels of the code, h and w its sides.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from components.core.randomness import normal
from components.core.records import DataSpec
from components.families.blocks import ResidualBlock, Upsample, group_norm, halvings
from components.families.dense import Dense
from components.families.images import image_of
from components.families.two_stages import Added
from components.runtime.processes import mean_over_processes

LOGVAR = (-30.0, 20.0)
BLOCKS = 2  # of the linear networks
WINDOW = 100  # batches that the running moments reach back while the codes still change


class KLAutoencoder(nn.Module):
    """x_BCHW <-> z_BZhw, and the codes' moments as buffers."""

    mean_Z: Tensor
    square_Z: Tensor
    batches: Tensor

    def __init__(self, spec: DataSpec, *, width: int, code: int, halve: int, dense: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean_Z", torch.zeros(code))
        self.register_buffer("square_Z", torch.ones(code))
        self.register_buffer("batches", torch.zeros(()))
        if dense:  # a code of one place
            values = math.prod(spec.shape)
            self.shape = (code, 1, 1)
            self.encoder = nn.Sequential(Dense(values, 2 * code, width=width, blocks=BLOCKS), nn.Unflatten(1, (2 * code, 1, 1)))
            self.decoder = nn.Sequential(Dense(code, values, width=width, blocks=BLOCKS), nn.Unflatten(1, spec.shape))
            return
        sizes = halvings(image_of(spec).height, image_of(spec).width, smallest=1)[: halve + 1]
        widths = [width * min(2**level, 4) for level in range(len(sizes))]
        self.shape = (code, *sizes[-1])
        down: list[nn.Module] = [nn.Conv2d(image_of(spec).channels, widths[0], 3, padding=1)]
        for width_in, width_out in pairwise(widths):
            down += [ResidualBlock(width_in, width_in), nn.Conv2d(width_in, width_out, 3, stride=2, padding=1)]
        self.encoder = nn.Sequential(*down, *_head(widths[-1], 2 * code))
        up: list[nn.Module] = [nn.Conv2d(code, widths[-1], 3, padding=1)]
        for level in reversed(range(1, len(sizes))):
            up += [ResidualBlock(widths[level], widths[level]), Upsample(widths[level], widths[level - 1], sizes[level - 1])]
        self.decoder = nn.Sequential(*up, *_head(widths[0], image_of(spec).channels))

    def encode(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar of the code, each BZhw."""
        mu, logvar = self.encoder(x_BCHW).chunk(2, dim=1)
        return mu, logvar.clamp(*LOGVAR)

    def posterior(self, x_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Mean and deviation of the code, each BZhw."""
        mu, logvar = self.encode(x_BCHW)
        return mu, (0.5 * logvar).exp()

    def draw(self, x_BCHW: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A code z_BZhw of the posterior, and KL(q || N(0, I)) of each of its values."""
        mu, logvar = self.encode(x_BCHW)
        z_BZhw = mu + (0.5 * logvar).exp() * normal(mu.shape, rng)
        return z_BZhw, 0.5 * (mu**2 + logvar.exp() - 1 - logvar)

    def loss(self, x_BCHW: Tensor, rng: torch.Generator, *, kl_weight: float, added: Added | None = None) -> Tensor:
        """The squared error of the reconstruction and what is `added` to it, regularised. In training the codes' moments are
        measured along the way."""
        z_BZhw, kl = self.draw(x_BCHW, rng)
        if self.training:
            self.measure(z_BZhw, window=WINDOW)
        back_BCHW = self.decoder(z_BZhw)
        error: Tensor = (back_BCHW - x_BCHW).square().mean()
        error = error + added(x_BCHW, back_BCHW, error) if added else error
        return error + kl_weight * kl.mean()

    @torch.no_grad()
    def measure(self, z_BZhw: Tensor, *, window: float = float("inf")) -> None:
        """Move the moments: a plain mean over all batches so far, or over about the last `window` of them."""
        z_BZhw = z_BZhw.float()
        self.batches.add_(1).clamp_(max=window)
        self.mean_Z.lerp_(mean_over_processes(z_BZhw.mean((0, 2, 3))), 1 / self.batches)
        self.square_Z.lerp_(mean_over_processes(z_BZhw.square().mean((0, 2, 3))), 1 / self.batches)

    @property
    def scale(self) -> Tensor:
        """The measured standard deviation of each channel of the codes."""
        return (self.square_Z - self.mean_Z**2).clamp(min=1e-12).sqrt()

    def standardise(self, z_BZhw: Tensor, *, deviation: float) -> Tensor:
        """Codes of mean zero and the given deviation."""
        return (z_BZhw - self.mean_Z.view(-1, 1, 1)) / self.scale.view(-1, 1, 1) * deviation

    def restore(self, codes_BZhw: Tensor, *, deviation: float) -> Tensor:
        """The inverse of `standardise`."""
        return codes_BZhw / deviation * self.scale.view(-1, 1, 1) + self.mean_Z.view(-1, 1, 1)


def draw_from(posterior: tuple[Tensor, ...], rng: torch.Generator) -> Tensor:
    """A code z_BZhw of mean and deviation; the mean where there is no deviation."""
    mean, *deviation = posterior
    return mean + deviation[0] * normal(mean.shape, rng) if deviation else mean


def _head(width: int, planes: int) -> list[nn.Module]:
    return [ResidualBlock(width, width), group_norm(width), nn.SiLU(), nn.Conv2d(width, planes, 3, padding=1)]
