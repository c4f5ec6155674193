"""Autoencoders, plain (Hinton & Salakhutdinov 2006, Science 313) and denoising (Vincent et al. 2008, ICML; 2010, JMLR 11).

    loss = |x - D(E(x'))|^2 / var(x) + (w / 2) |E(x)|^2,   x' = x, or x corrupted

An autoencoder has no prior. It is sampled by ex-post density estimation (Ghosh et al. 2020, arXiv:1903.12436, section 4): a
mixture of Gaussians fitted to the codes of the data, one for each class where there are classes. The penalty on the codes is
that paper's too (section 3): it keeps them where Gaussians can describe them.

B batch, C channels, H height, W width, N codes, Z latent size, K classes (1 without), M components of each, R = K M.
"""

import warnings
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
from components.families.images import side_of
from components.families.pyramid import Decoder, Encoder, PyramidConfig, with_class, with_planes

CODES, CODES_OF_CLASS = 4096, 256  # of the training images that the Gaussians are fitted to: in all, or of each class
CODES_EACH = 4  # codes that a component needs, for each number of a code
FLOOR = 1e-3  # added to the variances, as a share of the codes' own


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


class CodeDensity(nn.Module):
    """A mixture of M Gaussians for each class, N(mean_RZ, L_RZZ L^T) with R = K M and the shares share_KM; at first N(0, I)."""

    share_KM: Tensor
    mean_RZ: Tensor
    factor_RZZ: Tensor

    def __init__(self, *, classes: int, size: int, components: int) -> None:
        super().__init__()
        self.classes, self.components = classes, components
        rows = classes * components
        self.register_buffer("share_KM", torch.full((classes, components), 1 / components))
        self.register_buffer("mean_RZ", torch.zeros(rows, size))
        self.register_buffer("factor_RZZ", torch.eye(size).repeat(rows, 1, 1))

    @torch.no_grad()
    def fit(self, z_NZ: Tensor, labels_N: Tensor | None) -> None:
        """The mixture of each class's codes. Few codes get one Gaussian, with the covariance that all classes have in common."""
        z_NZ = z_NZ.double().cpu()
        of_N = torch.zeros(len(z_NZ), dtype=torch.int64) if labels_N is None else labels_N.cpu()
        known = [z_NZ[of_N == kind] for kind in range(self.classes)]
        apart_NZ = torch.cat([own - own.mean(0) for own in known if len(own)])
        common_ZZ = apart_NZ.T @ apart_NZ / len(apart_NZ)
        variance = common_ZZ.diagonal().mean()
        if not bool(variance > 0):  # one point, or numbers that are not finite
            return
        common_ZZ += FLOOR * variance * torch.eye(z_NZ.shape[1])
        for kind, own in enumerate(known):
            components = min(self.components, len(own) // (CODES_EACH * z_NZ.shape[1]))
            if components > 1:
                shares, means, factors = _mixture(own, components)
            else:
                mean_Z = own.mean(0) if len(own) else z_NZ.mean(0)
                shares, means, factors = torch.ones(1), mean_Z[None], torch.linalg.cholesky(common_ZZ)[None]
            self._take(kind, shares, means, factors)

    def _take(self, kind: int, shares: Tensor, means: Tensor, factors: Tensor) -> None:
        unused = self.components - len(shares)
        rows = slice(kind * self.components, (kind + 1) * self.components)
        self.share_KM[kind] = F.pad(shares, (0, unused))
        self.mean_RZ[rows] = F.pad(means, (0, 0, 0, unused)).to(self.mean_RZ)
        self.factor_RZZ[rows] = F.pad(factors, (0, 0, 0, 0, 0, unused)).to(self.factor_RZZ)


def _mixture(z_NZ: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shares, means and factors by expectation-maximisation from k-means, in units of the codes' deviation."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    spread = z_NZ.var(0).mean().sqrt().clamp(min=1e-12)
    mixture = GaussianMixture(components, reg_covar=FLOOR, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred rounds are enough
        found = mixture.fit((z_NZ / spread).numpy())
    means, covariances = torch.from_numpy(found.means_), torch.from_numpy(found.covariances_)
    return torch.from_numpy(found.weights_), spread * means, spread * torch.linalg.cholesky(covariances)


class Sampler(nn.Module):
    """noise_BZ, pick_B1 in [0, 1) (and class_B) -> D(mean + L noise) in [-1, 1], of the component that the number picks."""

    cdf_KM: Tensor

    def __init__(self, family: "Autoencoder") -> None:
        super().__init__()
        self.decoder = family.decoder
        self.spec = family.spec
        self.density = family.density
        cdf_KM = family.density.share_KM.cumsum(1)
        self.register_buffer("cdf_KM", cdf_KM / cdf_KM[:, -1:], persistent=False)  # 1 from the last component in use on

    def forward(self, noise_BZ: Tensor, pick_B1: Tensor, condition_B: Tensor | None = None) -> Tensor:
        class_B = torch.zeros_like(noise_BZ[:, 0], dtype=torch.int64) if condition_B is None else condition_B
        components = self.density.components
        picked_B = (self.cdf_KM.index_select(0, class_B) <= pick_B1).sum(1).clamp(max=components - 1)
        row_B = class_B * components + picked_B
        factor_BZZ, mean_BZ = self.density.factor_RZZ.index_select(0, row_B), self.density.mean_RZ.index_select(0, row_B)
        z_BZ = mean_BZ + (factor_BZZ @ noise_BZ[:, :, None]).squeeze(2)
        x_BCHW: Tensor = self.decoder(with_class(z_BZ, condition_B, self.spec))
        return x_BCHW.clamp(-1, 1)


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
        wanted = max(CODES, CODES_OF_CLASS * self.density.classes)
        seen: list[tuple[Tensor, Tensor | None]] = []
        while sum(len(z_BZ) for z_BZ, _ in seen) < wanted and (batch := next(batches, None)) is not None:
            seen.append((self.encode(batch.x, batch.condition), batch.condition))
        labels = [labels_B for _, labels_B in seen if labels_B is not None] if self.spec.conditional else []
        self.density.fit(torch.cat([z_BZ for z_BZ, _ in seen]), torch.cat(labels) if labels else None)

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The code z_BZ."""
        z_BZ: Tensor = self.encoder(with_planes(x_BCHW, labels_B, self.spec))
        return z_BZ

    def decode(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """x_BCHW in [-1, 1]."""
        x_BCHW: Tensor = self.decoder(with_class(z_BZ, labels_B, self.spec))
        return x_BCHW.clamp(-1, 1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (
            NoiseInput(name="noise", shape=(self.config.latent,)),
            NoiseInput(name="pick", shape=(1,), distribution="uniform"),
        )

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return Sampler(self)

    def _corrupt(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """What the encoder sees in training: here the image itself."""
        del rng
        return x_BCHW


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
        title="Denoising autoencoder with Gaussians fitted to its codes",
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
        noisy = x_BCHW + self.config.noise * normal(x_BCHW.shape, rng)
        masked_B1HW = uniform(x_BCHW[:, :1].shape, rng) < self.config.masked
        return noisy.masked_fill(masked_B1HW, -1.0)
