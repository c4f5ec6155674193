"""Diffusion on the codes of an autoencoder (Rombach et al. 2022, arXiv:2112.10752): what its variants share.

The first share of the budget trains the autoencoder, the rest the prior; with the autoencoder at rest, its codes' mean and
deviation are measured, each channel's own, and the prior sees them standardised (Karras et al. 2024, arXiv:2312.02696, app. B.4).
The paper assumes one scale, measured on the first batch.

B batch, C channels, H height, W width, Z channels of the code, h and w its sides.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.family import Batch
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.dense import few_values
from components.families.diffusion.kl_autoencoder import KLAutoencoder, draw_from
from components.families.diffusion.network import DiffusionConfig
from components.families.diffusion.sampling import Sampler
from components.families.images import resized, side_of
from components.families.two_stages import Added, TwoStageConfig, TwoStageFamily


class CodesConfig(TwoStageConfig, DiffusionConfig):
    latent: int = Field(default=4, ge=1, description="channels of the code")
    halve: int = Field(default=2, ge=1, description="how often the code's sides are halved: 1 up to side 16, 3 from 128")
    autoencoder_width: int = Field(default=32, ge=16, multiple_of=16, description="its channels at full resolution")
    autoencoder_share: float = Field(default=0.3, gt=0, lt=1, description="share of the budget that trains the autoencoder")
    kl_weight: float = Field(default=1e-4, ge=0, description="of the mean KL of a code's value beside the mean squared error")

    @classmethod
    def of_codes(cls, spec: DataSpec, *, light: bool) -> dict[str, Any]:
        """No more channels than an image has values."""
        side = side_of(spec)
        most = min(cls.model_fields["latent"].default, math.prod(spec.shape))
        found = {"patch": 1, "halve": 1 if side <= 16 else 2 if side < 128 else 3, "latent": most}
        narrow = {"autoencoder_width": 16} if light and side > 16 else {}
        narrow |= {"autoencoder_width": 128} if few_values(spec) else {}
        return found | narrow | cls.sharp_defaults(spec)


class Autoencoder(Protocol):
    """What stands between images and codes: the one that is trained here (kl_autoencoder.py), or one that was made elsewhere."""

    shape: tuple[int, int, int]
    decoder: Callable[[Tensor], Tensor]

    def parameters(self) -> Any: ...
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...
    def encode(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the code, each BZhw."""
        ...

    def posterior(self, x_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Mean and deviation of the code, each BZhw; the mean alone where it is the code."""
        ...

    def draw(self, x_BCHW: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]: ...
    def loss(self, x_BCHW: Tensor, rng: torch.Generator, *, kl_weight: float, added: Added | None = None) -> Tensor: ...
    def measure(self, z_BZhw: Tensor) -> None: ...
    def standardise(self, z_BZhw: Tensor, *, deviation: float) -> Tensor: ...
    def restore(self, codes_BZhw: Tensor, *, deviation: float) -> Tensor: ...


class CodesSampler(nn.Module):
    """noise_BZhw (and class_B) -> x_BCHW: the codes' sampler, then the decoder."""

    def __init__(self, codes: Sampler, autoencoder: Autoencoder, *, deviation: float) -> None:
        super().__init__()
        self.codes = codes
        self.autoencoder = autoencoder
        self.deviation = deviation

    def forward(self, noise_BZhw: Tensor, condition_B: Tensor | None = None) -> Tensor:
        z_BZhw = self.autoencoder.restore(self.codes.integrate(noise_BZhw, condition_B), deviation=self.deviation)
        return self.autoencoder.decoder(z_BZhw).clamp(-1, 1)


class OnCodes(TwoStageFamily):
    """An autoencoder and a denoiser of its codes. A subclass makes the denoiser, its loss and its sampler."""

    autoencoder: Autoencoder
    denoiser: Any

    def __init__(self, config: Any, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.autoencoder = self.make_autoencoder()
        channels, height, width = self.autoencoder.shape
        self.denoiser = self.make_denoiser(resized(spec, channels=channels, height=height, width=width))
        self.make_discriminator()

    def make_autoencoder(self) -> Autoencoder:
        config = self.config
        own = KLAutoencoder(self.spec, width=config.autoencoder_width, code=config.latent, halve=config.halve, dense=config.dense)
        return cast(Autoencoder, own)

    @abstractmethod
    def make_denoiser(self, codes: DataSpec) -> nn.Module:
        """Of codes as if they were images."""

    @abstractmethod
    def code_sampler(self, steps: int | None) -> Sampler:
        """Of codes; in so many steps, by default the config's."""

    @property
    @abstractmethod
    def deviation(self) -> float:
        """That the codes are brought to."""

    def autoencoder_loss(self, batch: Batch, rng: torch.Generator, *, added: Added | None) -> Tensor:
        return self.autoencoder.loss(batch.x, rng, kl_weight=self.config.kl_weight, added=added)

    def prior_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The denoising error of the codes."""
        loss: Tensor = self.denoiser.loss(self.codes(batch, rng), batch.condition, rng)
        return loss

    def rebuilt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        return self.autoencoder.decoder(self.autoencoder.draw(x_BCHW, rng)[0])

    @torch.no_grad()
    def codes(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The codes_BZhw of a batch, standardised by the moments of the batches before it, to which training adds its own."""
        z_BZhw = self.drawn(batch, rng)
        codes_BZhw = self.autoencoder.standardise(z_BZhw, deviation=self.deviation)
        if self.training:
            self.autoencoder.measure(z_BZhw)
        return codes_BZhw

    def drawn(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Codes z_BZhw of a batch, drawn anew from the posterior of each item, also where that is kept."""
        return draw_from(self.encoded(batch.x) if batch.codes is None else batch.codes, rng)

    def encoded(self, x: Tensor) -> tuple[Tensor, ...]:
        """The posterior."""
        return self.autoencoder.posterior(x)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        own = {"autoencoder": list(self.autoencoder.parameters()), "prior": list(self.denoiser.parameters())}
        return own | super().parameter_groups()

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The posterior's mean z_BZhw; the class plays no part in it."""
        return self.autoencoder.encode(x_BCHW)[0]

    def decode(self, z_BZhw: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """x_BCHW in [-1, 1]."""
        return self.autoencoder.decoder(z_BZhw).clamp(-1, 1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.autoencoder.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return CodesSampler(self.code_sampler(steps), self.autoencoder, deviation=self.deviation)
