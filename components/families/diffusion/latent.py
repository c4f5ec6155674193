"""Latent diffusion (Rombach et al. 2022, arXiv:2112.10752): an autoencoder first, then EDM diffusion of its codes.

The first share of the budget trains the autoencoder, the rest the prior; with the autoencoder at rest, its codes' mean and
deviation are measured, each channel's own, and the prior sees them standardised to the deviation that EDM's settings are made
for (Karras et al. 2024, arXiv:2312.02696, app. B.4). The paper assumes one scale, measured on the first batch.

B batch, C channels, H height, W width, Z channels of the code, h and w its sides.
"""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.dense import few_values
from components.families.diffusion.kl_autoencoder import KLAutoencoder
from components.families.diffusion.network import guided
from components.families.diffusion.preconditioning import Denoiser, PreconditionedConfig, points
from components.families.diffusion.sampling import Sampler
from components.families.images import resized, side_of
from components.families.two_stages import Added, TwoStageConfig, TwoStageFamily


class LatentConfig(PreconditionedConfig, TwoStageConfig):
    sigma_data: float = Field(default=0.5, gt=0, description="standard deviation that the codes are brought to")
    steps: int = Field(default=25, ge=1)
    latent: int = Field(default=4, ge=1, description="channels of the code")
    halve: int = Field(default=2, ge=1, description="how often the code's sides are halved: 1 up to side 16, 3 from 128")
    autoencoder_width: int = Field(default=32, ge=16, multiple_of=16, description="its channels at full resolution")
    autoencoder_share: float = Field(default=0.3, gt=0, lt=1, description="share of the budget that trains the autoencoder")
    kl_weight: float = Field(default=1e-4, ge=0, description="of the mean KL of a code's value beside the mean squared error")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Codes are standardised, so EDM's own noise levels hold whatever the data's deviation; no more channels than values."""
        side = side_of(spec)
        network = super(PreconditionedConfig, cls).defaults(spec, light=light)
        most = min(cls.model_fields["latent"].default, math.prod(spec.shape))
        found = {"patch": 1, "halve": 1 if side <= 16 else 2 if side < 128 else 3, "latent": most}
        narrow = {"autoencoder_width": 16} if light and side > 16 else {}
        narrow |= {"autoencoder_width": 128} if few_values(spec) else {}
        return network | found | narrow | cls.sharp_defaults(spec)


class LatentSampler(nn.Module):
    """noise_BZhw (and class_B) -> x_BCHW: the codes' sampler, then the decoder."""

    def __init__(self, codes: Sampler, autoencoder: KLAutoencoder, *, deviation: float) -> None:
        super().__init__()
        self.codes = codes
        self.autoencoder = autoencoder
        self.deviation = deviation

    def forward(self, noise_BZhw: Tensor, condition_B: Tensor | None = None) -> Tensor:
        z_BZhw = self.autoencoder.restore(self.codes.integrate(noise_BZhw, condition_B), deviation=self.deviation)
        x_BCHW: Tensor = self.autoencoder.decoder(z_BZhw)
        return x_BCHW.clamp(-1, 1)


class Latent(TwoStageFamily):
    """Diffusion for large images at a fraction of the cost, with an encoder; details are those of the autoencoder."""

    card = Card(
        family="diffusion",
        variant="latent",
        title="Latent diffusion: EDM on the codes of its own autoencoder, their scale measured",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=49,
        side_max=1024,
        data_appetite=2_000,
        stepwise=True,
        on_codes=True,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        student="latent-ect",
        references=("arXiv:2112.10752", "arXiv:2206.00364"),
    )
    Config = LatentConfig
    config: LatentConfig
    autoencoder: KLAutoencoder

    def __init__(self, config: LatentConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.autoencoder = KLAutoencoder(
            spec, width=config.autoencoder_width, code=config.latent, halve=config.halve, dense=config.dense
        )
        channels, height, width = self.autoencoder.shape
        codes = resized(spec, channels=channels, height=height, width=width)
        self.denoiser = Denoiser(config, codes)
        self.make_discriminator()

    def autoencoder_loss(self, batch: Batch, rng: torch.Generator, *, added: Added | None) -> Tensor:
        return self.autoencoder.loss(batch.x, rng, kl_weight=self.config.kl_weight, added=added)

    def prior_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The weighted denoising error of the codes."""
        return self.denoiser.loss(self.codes(batch, rng), batch.condition, rng)

    def rebuilt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        back_BCHW: Tensor = self.autoencoder.decoder(self.autoencoder.draw(x_BCHW, rng)[0])
        return back_BCHW

    @torch.no_grad()
    def codes(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The codes_BZhw of a batch, standardised by the moments of the batches before it, to which training adds its own."""
        z_BZhw, _ = self.autoencoder.draw(batch.x, rng)
        codes_BZhw = self.autoencoder.standardise(z_BZhw, deviation=self.config.sigma_data)
        if self.training:
            self.autoencoder.measure(z_BZhw)
        return codes_BZhw

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        own = {"autoencoder": list(self.autoencoder.parameters()), "prior": list(self.denoiser.parameters())}
        return own | super().parameter_groups()

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The posterior's mean z_BZhw; the class plays no part in it."""
        return self.autoencoder.encode(x_BCHW)[0]

    def decode(self, z_BZhw: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """x_BCHW in [-1, 1]."""
        x_BCHW: Tensor = self.autoencoder.decoder(z_BZhw)
        return x_BCHW.clamp(-1, 1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.autoencoder.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        levels = points(self.config, steps or self.config.steps)
        codes = Sampler(guided(self.denoiser, self.config), levels, solver=self.config.solver)
        return LatentSampler(codes, self.autoencoder, deviation=self.config.sigma_data)
