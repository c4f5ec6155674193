"""Autoencoders, plain (Hinton & Salakhutdinov 2006, Science 313) and denoising (Vincent et al. 2008, ICML; 2010, JMLR 11).

    loss = |x - D(E(x'))|^2 / var(x) + (w / 2) |E(x)|^2,   x' = x, or x corrupted

An autoencoder has no prior. It is sampled by ex-post density estimation (Ghosh et al. 2020, arXiv:1903.12436, section 4): a
mixture of Gaussians fitted to the codes of the data, one for each class where there are classes. The penalty on the codes is
that paper's too (section 3): it keeps them where Gaussians can describe them.

B batch, C channels, H height, W width, Z latent size, K classes (1 without), M components of each.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.randomness import normal, uniform
from components.core.records import DataSpec
from components.families.code_density import CodeDensity, MixtureSampler
from components.families.dense import few_values
from components.families.images import side_of
from components.families.pyramid import Decoder, Encoder, PyramidConfig, with_class, with_planes


class AutoencoderConfig(PyramidConfig):
    lr_peak: float = 3e-3
    batch_size: int = 64
    latent: int = Field(default=32, ge=2)
    code_weight: float = Field(default=1e-2, ge=0, description="of the penalty on the mean square of the codes (w)")
    components: int = Field(
        default=20, ge=1, description="Gaussians of the codes, of each class at most (M); 20 / K with classes"
    )

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """A small code for small images: the fewer its numbers, the better Gaussians describe it."""
        found = super().defaults(spec, light=light)
        most = found["latent"]
        latent = min(16, most) if side_of(spec) <= 16 else most
        components = cls.model_fields["components"].default
        return found | {
            "latent": latent,
            "components": max(1, components // len(spec.classes)) if spec.conditional else components,
        }


class Autoencoder(Family):
    """Compression, reconstruction and anomaly scores; the sharpest reconstructions, samples only as good as its Gaussians."""

    card = Card(
        family="autoencoder",
        variant="plain",
        title="Autoencoder with Gaussians fitted to its codes",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=1,
        side_max=256,
        data_appetite=200,
        starts=("scratch", "finetune", "lora"),
        references=("doi:10.1126/science.1127647", "arXiv:1903.12436"),
    )
    Config = AutoencoderConfig
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.encoder = Encoder(config, spec, outputs=config.latent)
        self.decoder = Decoder(config, spec)
        classes = len(spec.classes) if spec.conditional else 1
        self.density = CodeDensity(classes=classes, size=config.latent, components=config.components)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the squared error as a share of the data's variance, and the penalty}."""
        x_BCHW, labels_B = batch.x, batch.condition if self.spec.conditional else None
        z_BZ = self.encode(self._corrupt(x_BCHW, rng), labels_B)
        back_BCHW = self.decoder(with_class(z_BZ, labels_B, self.spec))
        error = F.mse_loss(back_BCHW, x_BCHW) / self.spec.std**2
        return {"model": error + 0.5 * self.config.code_weight * z_BZ.square().mean()}

    def calibrate(self, batches: Iterator[Batch]) -> None:
        """Fit the Gaussians to the codes of these images."""
        self.density.fit_to(batches, lambda batch: self.encode(batch.x, batch.condition))

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The code z_BZ."""
        z_BZ: Tensor = self.encoder(with_planes(x_BCHW, labels_B, self.spec))
        return z_BZ

    def decode(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """x_BCHW in [-1, 1]."""
        x_BCHW: Tensor = self.decoder(with_class(z_BZ, labels_B, self.spec))
        return x_BCHW.clamp(-1, 1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return self.density.noise_inputs()

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return MixtureSampler(self.decoder, self.density, self.spec)

    def _corrupt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """What the encoder sees in training: here the image itself."""
        del rng
        return x_BCHW


class DenoisingConfig(AutoencoderConfig):
    noise: float = Field(default=0.2, ge=0, description="standard deviation of the Gaussian noise, in data units")
    masked: float = Field(default=0.1, ge=0, lt=1, description="share of the pixels set to black; 0.25 in Vincent et al. 2008")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Where values are few no others tell what one of them was: noise of a tenth of their deviation, and none masked."""
        gentle = {"noise": 0.1 * spec.std, "masked": 0.0} if few_values(spec) else {}
        return super().defaults(spec, light=light) | gentle


class DenoisingAutoencoder(Autoencoder):
    """Rebuilds clean images from corrupted ones: for noisy inputs, and codes that small changes of the image do not move.

    x' = m (x + s n) - (1 - m),   n ~ N(0, I),   m = 0 for a share of the pixels          (Vincent et al. 2010, section 3.3)
    """

    card = Card(
        family="autoencoder",
        variant="denoising",
        title="Denoising autoencoder with Gaussians fitted to its codes",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=1,
        side_max=256,
        data_appetite=200,
        starts=("scratch", "finetune", "lora"),
        references=("doi:10.1145/1390156.1390294", "jmlr:v11/vincent10a", "arXiv:1903.12436"),
    )
    Config = DenoisingConfig
    config: DenoisingConfig

    def _corrupt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        noisy = x_BCHW + self.config.noise * normal(x_BCHW.shape, rng)
        masked_B1HW = uniform(x_BCHW[:, :1].shape, rng) < self.config.masked
        return noisy.masked_fill(masked_B1HW, -1.0)
