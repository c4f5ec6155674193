"""Autoencoders, plain (Hinton & Salakhutdinov 2006, Science 313) and denoising (Vincent et al. 2008, ICML; 2010, JMLR 11).

    loss = |x - D(E(x'))|^2 / var(x) + (w / 2) |E(x)|^2,   x' = x, or x corrupted

An autoencoder has no prior. It is sampled by ex-post density estimation (Ghosh et al. 2020, arXiv:1903.12436, section 4): a
Gaussian fitted to the codes of the data, one for each class where there are classes. The penalty on the codes is that paper's
too (section 3): it keeps them where a Gaussian can describe them.

B batch, C channels, H height, W width, Z latent size, K classes (1 without).
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.pyramid import Decoder, Encoder, PyramidConfig, with_class, with_planes


class AutoencoderConfig(PyramidConfig):
    lr_peak: float = 3e-3
    batch_size: int = 64
    latent: int = Field(default=32, ge=2)
    code_weight: float = Field(default=1e-2, ge=0, description="of the penalty on the mean square of the codes (w)")
    moments_decay: float = Field(default=0.99, ge=0, lt=1, description="of the running moments of the codes")

    @classmethod
    def defaults(cls, spec: DataSpec) -> dict[str, Any]:
        """A small code for small images: the fewer its numbers, the better a Gaussian describes it."""
        most = super().defaults(spec)["latent"]
        return {"latent": min(6, most) if max(spec.height, spec.width) <= 16 else most}


class CodeDensity(nn.Module):
    """A Gaussian for each class, N(mean_KZ, covariance_KZZ): the moments of all codes seen, older ones weighing less.

    With weights g^age and n codes of mean b and covariance S_b in a batch, the moments of old and new together are

        N <- g N + (1 - g) n,   a = (1 - g) n / N,   mean <- mean + a (b - mean)
        S <- (1 - a) S + a S_b + a (1 - a) (b - mean)(b - mean)^T

    which is exact from the first batch on (Chan et al. 1983, The American Statistician 37).
    """

    count_K: Tensor
    mean_KZ: Tensor
    covariance_KZZ: Tensor

    def __init__(self, *, classes: int, size: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("count_K", torch.zeros(classes))
        self.register_buffer("mean_KZ", torch.zeros(classes, size))
        self.register_buffer("covariance_KZZ", torch.eye(size).repeat(classes, 1, 1))

    @torch.no_grad()
    def measure(self, z_BZ: Tensor, labels_B: Tensor | None) -> None:
        """Take the codes of a batch into the moments of their classes."""
        z_BZ = z_BZ.float()
        if labels_B is None:
            labels_B = torch.zeros(len(z_BZ), dtype=torch.int64, device=z_BZ.device)
        member_KB = F.one_hot(labels_B, len(self.count_K)).T.to(z_BZ.dtype)
        n_K = member_KB.sum(1)
        share_KB = member_KB / n_K.clamp(min=1)[:, None]
        b_KZ = (share_KB[:, :, None] * z_BZ).sum(1)
        apart_KBZ = z_BZ - b_KZ[:, None]
        spread_KZZ = (share_KB[:, :, None] * apart_KBZ).mT @ apart_KBZ
        self.count_K.lerp_(n_K, 1 - self.decay)
        a_K = torch.where(n_K > 0, (1 - self.decay) * n_K / self.count_K, 0)
        moved_KZ, a_K11 = b_KZ - self.mean_KZ, a_K[:, None, None]
        self.covariance_KZZ.lerp_(spread_KZZ, a_K11).add_(a_K11 * (1 - a_K11) * moved_KZ[:, :, None] * moved_KZ[:, None])
        self.mean_KZ.add_(a_K[:, None] * moved_KZ)

    def factor(self) -> Tensor:
        """L_KZZ with L L^T the covariances, which a ten-thousandth of their mean variance keeps off singular."""
        covariance_KZZ = self.covariance_KZZ.double()
        variance_K = covariance_KZZ.diagonal(dim1=1, dim2=2).mean(1)
        floor_KZZ = torch.diag_embed((1e-4 * variance_K + 1e-12)[:, None].expand(self.mean_KZ.shape))
        factor_KZZ: Tensor = torch.linalg.cholesky(covariance_KZZ + floor_KZZ)
        return factor_KZZ.float()


class Sampler(nn.Module):
    """noise_BZ (and class_B) -> D(mean + L noise) in [-1, 1]. L is taken once, here: a graph has no factorisations."""

    factor_KZZ: Tensor

    def __init__(self, family: "Autoencoder") -> None:
        super().__init__()
        self.decoder = family.decoder
        self.spec = family.spec
        self.density = family.density
        self.register_buffer("factor_KZZ", family.density.factor(), persistent=False)

    def forward(self, noise_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        index_B = torch.zeros_like(noise_BZ[:, 0], dtype=torch.int64) if condition_B is None else condition_B
        factor_BZZ, mean_BZ = self.factor_KZZ.index_select(0, index_B), self.density.mean_KZ.index_select(0, index_B)
        z_BZ = mean_BZ + (factor_BZZ @ noise_BZ[:, :, None]).squeeze(2)
        x_BCHW: Tensor = self.decoder(with_class(z_BZ, condition_B, self.spec))
        return x_BCHW.clamp(-1, 1)


class Autoencoder(Family):
    """Compression, reconstruction and anomaly scores; the sharpest reconstructions, samples only as good as its Gaussian."""

    card = Card(
        family="autoencoder",
        variant="plain",
        title="Autoencoder with a Gaussian fitted to its codes",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=1,
        side_max=256,
        data_appetite=200,
        references=("doi:10.1126/science.1127647", "arXiv:1903.12436"),
    )
    Config = AutoencoderConfig
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.encoder = Encoder(config, spec, outputs=config.latent)
        self.decoder = Decoder(config, spec)
        classes = len(spec.classes) if spec.conditional else 1
        self.density = CodeDensity(classes=classes, size=config.latent, decay=config.moments_decay)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the squared error as a share of the data's variance, and the penalty}; training also measures the codes."""
        x_BCHW, labels_B = batch.images_BCHW, batch.labels_B if self.spec.conditional else None
        z_BZ = self.encode(self._corrupt(x_BCHW, rng), labels_B)
        back_BCHW = self.decoder(with_class(z_BZ, labels_B, self.spec))
        if self.training:
            self._measure(x_BCHW, z_BZ, labels_B)
        error = F.mse_loss(back_BCHW, x_BCHW) / self.spec.std**2
        return {"model": error + 0.5 * self.config.code_weight * z_BZ.square().mean()}

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The code z_BZ."""
        z_BZ: Tensor = self.encoder(with_planes(x_BCHW, labels_B, self.spec))
        return z_BZ

    def decode(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """x_BCHW in [-1, 1]."""
        x_BCHW: Tensor = self.decoder(with_class(z_BZ, labels_B, self.spec))
        return x_BCHW.clamp(-1, 1)

    def anomaly_score(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """score_B: the mean squared error of the reconstruction, 0 to 4; the higher, the less like the training data."""
        back_BCHW = self.decode(self.encode(x_BCHW, labels_B), labels_B)
        return (back_BCHW - x_BCHW).square().flatten(1).mean(1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=(self.config.latent,)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return Sampler(self)

    def _corrupt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """What the encoder sees in training: here the image itself."""
        del rng
        return x_BCHW

    def _measure(self, x_BCHW: Tensor, z_BZ: Tensor, labels_B: Tensor | None) -> None:
        """Take the codes of the images, which here are those that the loss has made."""
        del x_BCHW
        self.density.measure(z_BZ, labels_B)


class DenoisingConfig(AutoencoderConfig):
    noise: float = Field(default=0.2, ge=0, description="standard deviation of the Gaussian noise, in data units")
    masked: float = Field(default=0.1, ge=0, lt=1, description="share of the pixels set to black; 0.25 in Vincent et al. 2008")


class DenoisingAutoencoder(Autoencoder):
    """Rebuilds clean images from corrupted ones: for noisy inputs, and codes that small changes of the image do not move.

    x' = m (x + s n) - (1 - m),   n ~ N(0, I),   m = 0 for a share of the pixels          (Vincent et al. 2010, section 3.3)
    """

    card = Card(
        family="autoencoder",
        variant="denoising",
        title="Denoising autoencoder with a Gaussian fitted to its codes",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=1,
        side_max=256,
        data_appetite=200,
        references=("doi:10.1145/1390156.1390294", "jmlr:v11/vincent10a", "arXiv:1903.12436"),
    )
    Config = DenoisingConfig
    config: DenoisingConfig

    def _corrupt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        noisy = x_BCHW + self.config.noise * torch.randn(x_BCHW.shape, generator=rng, device=x_BCHW.device)
        masked_B1HW = torch.rand(x_BCHW[:, :1].shape, generator=rng, device=x_BCHW.device) < self.config.masked
        return noisy.masked_fill(masked_B1HW, -1.0)

    @torch.no_grad()
    def _measure(self, x_BCHW: Tensor, z_BZ: Tensor, labels_B: Tensor | None) -> None:
        """The codes of clean images: those of corrupted ones lie elsewhere."""
        del z_BZ
        self.density.measure(self.encode(x_BCHW, labels_B), labels_B)
