"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114) with residual convolutions and a calibrated decoder.

    log p(x) >= E_q(z|x)[log p(x|z)] - KL(q(z|x) || p(z)),   q = N(mu(x), diag exp(logvar(x)))

It learns with p(z) = N(0, I). What the decoder learns to decode are codes of the aggregate posterior, q(z) = mean_n q(z|x_n), and
that is another distribution (Hoffman & Johnson 2016, 'ELBO surgery'): of all priors it makes the bound the highest (Tomczak &
Welling 2018, arXiv:1705.07120, section 2). So once the weights have learnt, a mixture of Gaussians is fitted to draws of q(z) and
is the prior from there on: of the sampler and, the same one, of the likelihood's bound.

p(x|z) is a discretised logistic with a learned scale for each channel (Salimans et al. 2017, arXiv:1701.05517, eq. 2): a
probability of 8-bit values, so the bound is a true one in nats, and the balance of the two terms is learned rather than set
(Rybkin et al. 2021, arXiv:2006.13202). KL warm-up as in Sonderby et al. 2016, arXiv:1602.02282.

B batch, C channels, H height, W width, Z latent size.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import ACTIVE, Batch, Family
from components.core.noise import NoiseInput
from components.core.randomness import noise_from, normal
from components.core.records import DataSpec
from components.families.code_density import CodeDensity, MixtureSampler
from components.families.dense import few_values
from components.families.images import image_of, side_of
from components.families.pyramid import Decoder, Encoder, PyramidConfig, with_class, with_planes
from components.runtime.processes import mean_over_processes

LATENTS = ((8, 16), (32, 32), (math.inf, 64))  # up to this side, so many: docs/decisions/0022-latents.md
COMPONENTS = 50  # in all; no more than the codes allow
CAPACITY_EACH = 2.0  # nats for each of few values


class VAEConfig(PyramidConfig):
    lr_peak: float = 3e-3
    batch_size: int = 64
    kl_warmup: float = Field(
        default=0.1, ge=0, le=1, description="share of the run over which the KL term grows to its full weight"
    )
    beta: float = Field(default=1.0, gt=0, description="weight of the KL term; 1 is the bound itself")
    components: int = Field(
        default=0,
        ge=0,
        description="Gaussians that are fitted to the aggregate posterior, of each class at most, and drawn from; 0: N(0, I)",
    )

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """As many latents as images of this side use; what they do not need the KL term leaves at the prior."""
        latent = next(latents for side, latents in LATENTS if side_of(spec) <= side)
        components = max(1, COMPONENTS // len(spec.classes)) if spec.conditional else COMPONENTS
        found = {"latent": max(2, min(latent, math.prod(spec.shape))), "components": components}
        return super().defaults(spec, light=light) | found


class Sampler(nn.Module):
    """z_BZ of N(0, I) (and class_B) -> the decoder's mean in [-1, 1]."""

    def __init__(self, family: "GaussianVAE") -> None:
        super().__init__()
        self.decoder = family.decoder
        self.spec = family.spec

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        x_BCHW: Tensor = self.decoder(with_class(z_BZ, condition_B, self.spec))
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
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1312.6114", "arXiv:1701.05517", "arXiv:2006.13202"),
    )
    Config = VAEConfig
    config: VAEConfig

    def __init__(self, config: VAEConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.encoder = Encoder(config, spec, outputs=2 * config.latent)
        self.decoder = Decoder(config, spec)
        classes = len(spec.classes) if spec.conditional else 1
        some = config.components > 0
        self.density = CodeDensity(classes=classes, size=config.latent, components=config.components) if some else None
        self.log_scale_C = nn.Parameter(torch.full((image_of(spec).channels,), -2.0))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the negative bound in nats an item, divided by the number of values}, the KL term warmed up."""
        log_px_B, kl_B = self._terms(batch.x, batch.condition, rng)
        cost = self._price(kl_B.mean(), batch) - log_px_B.mean()
        return {"model": cost / math.prod(self.spec.shape)}

    def log_prob(
        self, x_BCHW: Tensor, labels_B: Tensor | None = None, *, rng: torch.Generator | None = None, draws: int = 16
    ) -> Tensor:
        """A lower bound of log p(x) in nats: importance weighted (Burda et al. 2016, arXiv:1509.00519), of 8-bit images."""
        rng = rng or torch.Generator(x_BCHW.device).manual_seed(0)
        mu_BZ, logvar_BZ = self.posterior(x_BCHW, labels_B)
        weights = []
        for _ in range(draws):
            eps_BZ = normal(mu_BZ.shape, rng)
            z_BZ = mu_BZ + (0.5 * logvar_BZ).exp() * eps_BZ
            log_q_B = _log_normal(eps_BZ) - 0.5 * logvar_BZ.sum(1)
            log_px_B = self._log_px(x_BCHW, self.decoder(with_class(z_BZ, labels_B, self.spec)))
            weights.append(log_px_B + self.log_prior(z_BZ, labels_B) - log_q_B)
        return torch.logsumexp(torch.stack(weights), 0) - math.log(draws)

    def log_prior(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """log p(z)_B in nats, of what codes are drawn from."""
        if self.density is None:
            return _log_normal(z_BZ)
        return self.density.log_prob(z_BZ, labels_B if self.spec.conditional else None)

    def calibrate(self, batches: Iterator[Batch]) -> None:
        """Fit the prior to a code of each of these images: draws of the aggregate posterior."""
        if self.density is not None:
            self.density.fit_to(batches, lambda batch: self._draw(batch, noise_from(batch.step, device=batch.x.device)))

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The posterior mean z_BZ."""
        return self.posterior(x_BCHW, labels_B)[0]

    def posterior(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """mu_BZ and logvar_BZ of q(z|x)."""
        mu_BZ, logvar_BZ = self.encoder(with_planes(x_BCHW, labels_B, self.spec)).chunk(2, dim=1)
        return mu_BZ, logvar_BZ.clamp(-12, 4)

    def active_units(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> int:
        """How many latents carry information: those with Var_x(E[z|x]) > 0.01 (Burda et al. 2016, arXiv:1509.00519, section 4.2).

        From 0, where the posterior has collapsed onto the prior, to Z. x_BCHW: some dozens of images or more.
        """
        with torch.no_grad():
            return int((self.encode(x_BCHW, labels_B).var(0, unbiased=False) > ACTIVE).sum())

    def diagnostics(self, batch: Batch) -> dict[str, float]:
        """The units that carry information; 0 says that the posterior has collapsed."""
        return {"active_units": float(self.active_units(batch.x, batch.condition))}

    def decode(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The decoder's mean x_BCHW in [-1, 1]."""
        x_BCHW: Tensor = self.decoder(with_class(z_BZ, labels_B, self.spec))
        return x_BCHW.clamp(-1, 1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=(self.config.latent,)),) if self.density is None else self.density.noise_inputs()

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return Sampler(self) if self.density is None else MixtureSampler(self.decoder, self.density, self.spec)

    def _draw(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """A code z_BZ of each posterior."""
        mu_BZ, logvar_BZ = self.posterior(batch.x, batch.condition)
        return mu_BZ + (0.5 * logvar_BZ).exp() * normal(mu_BZ.shape, rng)

    def _terms(self, x_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """log p(x|z)_B for one draw of z, and KL(q || p)_B."""
        mu_BZ, logvar_BZ = self.posterior(x_BCHW, labels_B)
        eps_BZ = normal(mu_BZ.shape, rng)
        z_BZ = mu_BZ + (0.5 * logvar_BZ).exp() * eps_BZ
        return self._log_px(x_BCHW, self.decoder(with_class(z_BZ, labels_B, self.spec))), divergence(mu_BZ, logvar_BZ)

    def _price(self, kl: Tensor, batch: Batch) -> Tensor:
        """What the loss takes for the mean KL of a batch in nats: beta KL, warmed up."""
        warm = min(1.0, batch.progress / self.config.kl_warmup) if self.config.kl_warmup else 1.0
        return warm * self.config.beta * kl

    def _log_px(self, x_BCHW: Tensor, mean_BCHW: Tensor) -> Tensor:
        """log of the logistic's mass in the bin of width 2/255 around each value; the outermost bins reach to infinity."""
        inverse_scale = torch.exp(-self.log_scale_C.clamp(min=-5)).view(1, -1, 1, 1)
        upper = inverse_scale * (x_BCHW - mean_BCHW + 1 / 255)
        lower = inverse_scale * (x_BCHW - mean_BCHW - 1 / 255)
        # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)), stable where both saturate.
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log1p(-torch.exp(lower - upper))
        log_mass = torch.where(x_BCHW < -0.999, F.logsigmoid(upper), torch.where(x_BCHW > 0.999, F.logsigmoid(-lower), inside))
        return log_mass.flatten(1).sum(1)


def _log_normal(z_BZ: Tensor) -> Tensor:
    """log N(z; 0, I)_B."""
    return -0.5 * (z_BZ**2 + math.log(2 * math.pi)).sum(1)


def divergence(mu_BZ: Tensor, logvar_BZ: Tensor) -> Tensor:
    """KL(N(mu, diag exp(logvar)) || N(0, I))_B."""
    return 0.5 * (mu_BZ**2 + logvar_BZ.exp() - 1 - logvar_BZ).sum(1)


class BetaVAEConfig(VAEConfig):
    beta: float = Field(default=4.0, gt=0, description="weight of the KL term, or of its distance from the capacity")
    capacity: float | None = Field(
        default=None, gt=0, description="nats that the latents may carry at the end; they grow from none (Burgess et al. 2018)"
    )
    capacity_share: float = Field(default=0.7, gt=0, le=1, description="share of the run over which the capacity grows")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """A capacity where values are few: with as many values as latents a nat of code buys one of likelihood, so that at any
        weight above 1 none is worth its price."""
        some = {"capacity": CAPACITY_EACH * math.prod(spec.shape)} if few_values(spec) else {}
        return super().defaults(spec, light=light) | some


class BetaVAE(GaussianVAE):
    """beta-VAE (Higgins et al. 2017, ICLR): a KL term of more weight, for fewer and more independent latents.

        loss = -E_q[log p(x|z)] + beta KL                                                                       (eq. 4)
        loss = -E_q[log p(x|z)] + beta |KL - C|,  C from 0 to `capacity`    (Burgess et al. 2018, arXiv:1804.03599, eq. 8)

    Only training differs: `log_prob` is the bound itself, with beta = 1.
    """

    card = Card(
        family="vae",
        variant="beta",
        title="beta-VAE: independent latents by a heavier or capacity-limited KL term",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="bound",
        latent=True,
        steps=1,
        side_max=128,
        data_appetite=500,
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1804.03599", "arXiv:1312.6114"),
    )
    Config = BetaVAEConfig
    config: BetaVAEConfig

    def survey(self, parts: Sequence[Batch], rng: torch.Generator) -> Sequence[Tensor | None]:
        """The KL of the whole batch: on which side of the capacity it lies no part of it can tell."""
        if self.config.capacity is None:
            return super().survey(parts, rng)
        kl_B = torch.cat([divergence(*self.posterior(part.x, part.condition)) for part in parts])
        return [mean_over_processes(kl_B.mean())] * len(parts)

    def _price(self, kl: Tensor, batch: Batch) -> Tensor:
        if self.config.capacity is None:
            return super()._price(kl, batch)
        capacity = self.config.capacity * min(1.0, batch.progress / self.config.capacity_share)
        whole = mean_over_processes(kl) if batch.of_whole is None else batch.of_whole + (kl - kl.detach())
        return self.config.beta * (whole - capacity).abs()
