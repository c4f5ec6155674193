"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114) with residual convolutions and a calibrated decoder.

    log p(x) >= E_q(z|x)[log p(x|z)] - KL(q(z|x) || p(z)),   q = N(mu(x), diag exp(logvar(x))),   p(z) = N(0, I)

p(x|z) is a discretised logistic with a learned scale for each channel (Salimans et al. 2017, arXiv:1701.05517, eq. 2): a
probability of 8-bit values, so the bound is a true one in nats, and the balance of the two terms is learned rather than set
(Rybkin et al. 2021, arXiv:2006.13202). KL warm-up as in Sonderby et al. 2016, arXiv:1602.02282.

B batch, C channels, H height, W width, Z latent size.
"""

import math
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.blocks import ResidualBlock, Upsample, group_norm, halvings


class VAEConfig(FamilyConfig):
    lr_peak: float = 3e-3
    batch_size: int = 64
    width: int = Field(
        default=32, ge=16, description="channels at full resolution; they double with each halving, up to four times"
    )
    latent: int = Field(default=6, ge=2)
    blocks: int = Field(default=1, ge=1, description="residual blocks at each resolution")
    kl_warmup: float = Field(
        default=0.1, ge=0, le=1, description="share of the run over which the KL term grows to its full weight"
    )
    beta: float = Field(default=1.0, gt=0, description="weight of the KL term; 1 is the bound itself")
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Encoder(nn.Module):
    """x_BCHW, class -> mu_BZ, logvar_BZ."""

    def __init__(self, config: VAEConfig, spec: DataSpec) -> None:
        super().__init__()
        sizes, widths = _pyramid(config, spec)
        planes = spec.channels + (len(spec.classes) if spec.conditional else 0)
        layers: list[nn.Module] = [nn.Conv2d(planes, widths[0], 3, padding=1)]
        for level, (width, following) in enumerate(pairwise([*widths, widths[-1]])):
            layers += [ResidualBlock(width, width, dropout=config.dropout) for _ in range(config.blocks)]
            if level < len(sizes) - 1:
                layers.append(nn.Conv2d(width, following, 3, stride=2, padding=1))
        layers += [group_norm(widths[-1]), nn.SiLU(), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * math.prod(sizes[-1]), 2 * config.latent)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mu_BZ, logvar_BZ = self.head(self.body(x_BCHW)).chunk(2, dim=1)
        return mu_BZ, logvar_BZ.clamp(-12, 4)


class Decoder(nn.Module):
    """z_B(Z+K) -> the mean of x_BCHW."""

    def __init__(self, config: VAEConfig, spec: DataSpec) -> None:
        super().__init__()
        sizes, widths = _pyramid(config, spec)
        inputs = config.latent + (len(spec.classes) if spec.conditional else 0)
        self.stem = nn.Linear(inputs, widths[-1] * math.prod(sizes[-1]))
        self.start = (widths[-1], *sizes[-1])
        layers: list[nn.Module] = []
        for level in reversed(range(len(sizes))):
            layers += [ResidualBlock(widths[level], widths[level], dropout=config.dropout) for _ in range(config.blocks)]
            if level:
                layers.append(Upsample(widths[level], widths[level - 1], sizes[level - 1]))
        layers += [group_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], spec.channels, 3, padding=1)]
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        x_BCHW: Tensor = self.body(self.stem(z).unflatten(1, self.start))
        return x_BCHW


class Sampler(nn.Module):
    """z_BZ (and class_B) -> the decoder's mean in [-1, 1]."""

    def __init__(self, family: "GaussianVAE") -> None:
        super().__init__()
        self.decoder = family.decoder
        self.classes = len(family.spec.classes) if family.spec.conditional else 0

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        if condition_B is not None:
            z_BZ = torch.cat([z_BZ, F.one_hot(condition_B, self.classes).to(z_BZ.dtype)], dim=1)
        x_BCHW: Tensor = self.decoder(z_BZ)
        return x_BCHW.clamp(-1, 1)


class GaussianVAE(Family):
    """Latent space exploration, compression and anomaly scores; cheap, very stable training; smooth samples."""

    card = Card(
        family="vae",
        variant="gaussian",
        title="Variational autoencoder with Gaussian latents and a discretised-logistic decoder",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="bound",
        latent=True,
        steps=1,
        side_max=128,
        data_appetite=500,
        references=("arXiv:1312.6114", "arXiv:1701.05517", "arXiv:2006.13202"),
    )
    Config = VAEConfig
    config: VAEConfig

    def __init__(self, config: VAEConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.encoder = Encoder(config, spec)
        self.decoder = Decoder(config, spec)
        self.log_scale_C = nn.Parameter(torch.full((spec.channels,), -2.0))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the negative bound in nats an item, divided by the number of values}, the KL term warmed up."""
        warm = min(1.0, batch.progress / self.config.kl_warmup) if self.config.kl_warmup else 1.0
        log_px_B, kl_B = self._terms(batch.images_BCHW, batch.labels_B, rng)
        bound = log_px_B - warm * self.config.beta * kl_B
        return {"model": -bound.mean() / math.prod(self.spec.shape)}

    def log_prob(
        self, x_BCHW: Tensor, labels_B: Tensor | None = None, *, rng: torch.Generator | None = None, draws: int = 16
    ) -> Tensor:
        """A lower bound of log p(x) in nats: importance weighted (Burda et al. 2016, arXiv:1509.00519), of 8-bit images."""
        rng = rng or torch.Generator(x_BCHW.device).manual_seed(0)
        mu_BZ, logvar_BZ = self.encoder(self._with_planes(x_BCHW, labels_B))
        weights = []
        for _ in range(draws):
            eps_BZ = torch.randn(mu_BZ.shape, generator=rng, device=mu_BZ.device)
            z_BZ = mu_BZ + (0.5 * logvar_BZ).exp() * eps_BZ
            log_ratio_B = 0.5 * (logvar_BZ + eps_BZ**2 - z_BZ**2).sum(1)  # log p(z) - log q(z|x)
            weights.append(self._log_px(x_BCHW, self.decoder(self._with_class(z_BZ, labels_B))) + log_ratio_B)
        return torch.logsumexp(torch.stack(weights), 0) - math.log(draws)

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The posterior mean z_BZ."""
        mu_BZ: Tensor = self.encoder(self._with_planes(x_BCHW, labels_B))[0]
        return mu_BZ

    def decode(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The decoder's mean x_BCHW in [-1, 1]."""
        x_BCHW: Tensor = self.decoder(self._with_class(z_BZ, labels_B))
        return x_BCHW.clamp(-1, 1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=(self.config.latent,)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return Sampler(self)

    def _terms(self, x_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """log p(x|z)_B for one draw of z, and KL(q || p)_B."""
        mu_BZ, logvar_BZ = self.encoder(self._with_planes(x_BCHW, labels_B))
        eps_BZ = torch.randn(mu_BZ.shape, generator=rng, device=mu_BZ.device)
        z_BZ = mu_BZ + (0.5 * logvar_BZ).exp() * eps_BZ
        kl_B = 0.5 * (mu_BZ**2 + logvar_BZ.exp() - 1 - logvar_BZ).sum(1)
        return self._log_px(x_BCHW, self.decoder(self._with_class(z_BZ, labels_B))), kl_B

    def _log_px(self, x_BCHW: Tensor, mean_BCHW: Tensor) -> Tensor:
        """log of the logistic's mass in the bin of width 2/255 around each value; the outermost bins reach to infinity."""
        inverse_scale = torch.exp(-self.log_scale_C.clamp(min=-5)).view(1, -1, 1, 1)
        upper = inverse_scale * (x_BCHW - mean_BCHW + 1 / 255)
        lower = inverse_scale * (x_BCHW - mean_BCHW - 1 / 255)
        # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)), stable where both saturate.
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log1p(-torch.exp(lower - upper))
        log_mass = torch.where(x_BCHW < -0.999, F.logsigmoid(upper), torch.where(x_BCHW > 0.999, F.logsigmoid(-lower), inside))
        return log_mass.flatten(1).sum(1)

    def _with_class(self, z_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        if not self.spec.conditional:
            return z_BZ
        assert labels_B is not None
        return torch.cat([z_BZ, F.one_hot(labels_B, len(self.spec.classes)).to(z_BZ.dtype)], dim=1)

    def _with_planes(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        if not self.spec.conditional:
            return x_BCHW
        assert labels_B is not None
        planes = F.one_hot(labels_B, len(self.spec.classes)).to(x_BCHW.dtype)[:, :, None, None]
        return torch.cat([x_BCHW, planes.expand(-1, -1, *x_BCHW.shape[2:])], dim=1)


def _pyramid(config: VAEConfig, spec: DataSpec) -> tuple[list[tuple[int, int]], list[int]]:
    """The sides of each level and their channels."""
    sizes = halvings(spec.height, spec.width)
    return sizes, [config.width * min(2**level, 4) for level in range(len(sizes))]
