"""Autoencoders, plain (Hinton & Salakhutdinov 2006, Science 313) and denoising (Vincent et al. 2008, ICML; 2010, JMLR 11).

    loss = |x - D(E(x'))|^2 / var(x) + (w / 2) |E(x)|^2,   x' = x, or x corrupted

An autoencoder has no prior. It is sampled by ex-post density estimation (Ghosh et al. 2020, arXiv:1903.12436, section 4): a
mixture of Gaussians fitted to the codes of the data, one for each class where there are classes. The penalty on the codes is
that paper's too (section 3): it keeps them where Gaussians can describe them.

B batch, C channels, H height, W width, Z latent size, K classes (1 without), M components of each, R = K M.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.processes import mean_over_processes, processes, rows_over_processes, sum_over_processes
from components.core.randomness import normal, uniform
from components.core.records import DataSpec
from components.families.pyramid import Decoder, Encoder, PyramidConfig, with_class, with_planes


class AutoencoderConfig(PyramidConfig):
    lr_peak: float = 3e-3
    batch_size: int = 64
    latent: int = Field(default=32, ge=2)
    code_weight: float = Field(default=1e-2, ge=0, description="of the penalty on the mean square of the codes (w)")
    components: int = Field(default=10, ge=1, description="Gaussians of the codes, of each class (M); 1 where there are classes")
    moments_decay: float = Field(default=0.99, ge=0, lt=1, description="of the running moments of the codes")

    @classmethod
    def defaults(cls, spec: DataSpec) -> dict[str, Any]:
        """A small code for small images: the fewer its numbers, the better Gaussians describe it."""
        most = super().defaults(spec)["latent"]
        latent = min(6, most) if max(spec.height, spec.width) <= 16 else most
        return {"latent": latent} | ({"components": 1} if spec.conditional else {})


class CodeDensity(nn.Module):
    """A mixture of M Gaussians for each class, N(mean_RZ, covariance_RZZ) with R = K M: the moments of all codes seen, older ones
    weighing less, each code shared out over its class's components as they explain it (stepwise EM, Cappe & Moulines 2009,
    arXiv:0712.4273).

    With weights g^age and n codes of mean b and covariance S_b in a batch, the moments of old and new together are

        N <- g N + (1 - g) n,   a = (1 - g) n / N,   mean <- mean + a (b - mean)
        S <- (1 - a) S + a S_b + a (1 - a) (b - mean)(b - mean)^T

    which is exact from the first batch on where M is 1 (Chan et al. 1983, The American Statistician 37). Several components
    begin at codes of the first batch that lie far apart.
    """

    count_R: Tensor
    mean_RZ: Tensor
    covariance_RZZ: Tensor

    def __init__(self, *, classes: int, size: int, decay: float, components: int = 1) -> None:
        super().__init__()
        self.classes, self.components, self.decay = classes, components, decay
        self._known_begun = False
        rows = classes * components
        self.register_buffer("count_R", torch.zeros(rows))
        self.register_buffer("mean_RZ", torch.zeros(rows, size))
        self.register_buffer("covariance_RZZ", torch.eye(size).repeat(rows, 1, 1))

    @torch.no_grad()
    def measure(self, z_BZ: Tensor, labels_B: Tensor | None) -> None:
        """Take the codes of a batch into the moments of their classes."""
        z_BZ = z_BZ.float()
        if labels_B is None:
            labels_B = torch.zeros(len(z_BZ), dtype=torch.int64, device=z_BZ.device)
        member_RB = F.one_hot(labels_B, self.classes).T.to(z_BZ.dtype)
        if self.components > 1:
            if not self._has_begun():
                self._begin(z_BZ, member_RB)
            share_KMB = self._log_joint(z_BZ).unflatten(0, (self.classes, self.components)).softmax(1)
            member_RB = (member_RB[:, None] * share_KMB).flatten(0, 1)
        n_R = sum_over_processes(member_RB.sum(1))
        share_RB = member_RB / n_R.clamp(min=1e-6)[:, None]
        b_RZ = sum_over_processes((share_RB[:, :, None] * z_BZ).sum(1))
        apart_RBZ = z_BZ - b_RZ[:, None]
        spread_RZZ = sum_over_processes((share_RB[:, :, None] * apart_RBZ).mT @ apart_RBZ)
        self.count_R.lerp_(n_R, 1 - self.decay)
        a_R = torch.where(n_R > 1e-6, (1 - self.decay) * n_R / self.count_R, 0)
        moved_RZ, a_R11 = b_RZ - self.mean_RZ, a_R[:, None, None]
        self.covariance_RZZ.lerp_(spread_RZZ, a_R11).add_(a_R11 * (1 - a_R11) * moved_RZ[:, :, None] * moved_RZ[:, None])
        self.mean_RZ.add_(a_R[:, None] * moved_RZ)

    def _has_begun(self) -> bool:
        """Whether every class was seen; asks the device until the answer is yes."""
        self._known_begun = self._known_begun or bool((self.count_R.view(self.classes, -1).sum(1) > 0).all())
        return self._known_begun

    def _begin(self, z_BZ: Tensor, member_KB: Tensor) -> None:
        """Classes seen for the first time: components on their first codes, each with an equal part of a batch behind it."""
        n_K = sum_over_processes(member_KB.sum(1))
        new_K = (self.count_R.view(self.classes, -1).sum(1) == 0) & (n_K > 0)
        new_R1 = new_K.repeat_interleave(self.components)[:, None]
        every = torch.arange(processes() * len(z_BZ), device=z_BZ.device)
        start_RZ = self._apart(rows_over_processes(z_BZ, every), rows_over_processes(member_KB.T, every).T)
        mean_Z = mean_over_processes(z_BZ.mean(0))
        spread_ZZ = mean_over_processes((z_BZ - mean_Z).T @ (z_BZ - mean_Z) / len(z_BZ))
        self.mean_RZ.copy_(torch.where(new_R1, start_RZ, self.mean_RZ))
        self.covariance_RZZ.copy_(torch.where(new_R1[:, :, None], spread_ZZ / self.components, self.covariance_RZZ))
        part_R = (n_K / self.components).repeat_interleave(self.components)
        self.count_R.copy_(torch.where(new_R1[:, 0], part_R, self.count_R))

    def _apart(self, z_BZ: Tensor, member_KB: Tensor) -> Tensor:
        """[R, Z]: of each class a first code, then again and again the one that is farthest from those taken."""
        distance_BB = torch.cdist(z_BZ, z_BZ)
        taken_K = member_KB.argmax(1)
        taken, nearest_KB = [taken_K], distance_BB[taken_K]
        for _ in range(self.components - 1):
            taken_K = (nearest_KB * member_KB).argmax(1)
            taken.append(taken_K)
            nearest_KB = torch.minimum(nearest_KB, distance_BB[taken_K])
        return z_BZ[torch.stack(taken, dim=1).flatten()]

    def _log_joint(self, z_BZ: Tensor) -> Tensor:
        """log p(m, z | class) of each component, [R, B], up to a constant."""
        factor_RZZ = self.factor()
        apart_RZB = (z_BZ - self.mean_RZ[:, None]).mT
        white_RZB = torch.linalg.solve_triangular(factor_RZZ, apart_RZB, upper=False)
        log_volume_R = factor_RZZ.diagonal(dim1=1, dim2=2).log().sum(1)
        log_RB: Tensor = (self.count_R.clamp(min=1e-6).log() - log_volume_R)[:, None] - 0.5 * white_RZB.square().sum(1)
        return log_RB

    def shares(self) -> Tensor:
        """The weight of each component in its class, [K, M]."""
        count_KM = self.count_R.view(self.classes, self.components) + 1e-12
        return count_KM / count_KM.sum(1, keepdim=True)

    def factor(self) -> Tensor:
        """L_RZZ with L L^T the covariances, which a ten-thousandth of their mean variance keeps off singular."""
        covariance_RZZ = self.covariance_RZZ.double()
        variance_R = covariance_RZZ.diagonal(dim1=1, dim2=2).mean(1)
        floor_RZZ = torch.diag_embed((1e-4 * variance_R + 1e-12)[:, None].expand(self.mean_RZ.shape))
        factor_RZZ: Tensor = torch.linalg.cholesky(covariance_RZZ + floor_RZZ)
        return factor_RZZ.float()


class Sampler(nn.Module):
    """noise_BZ, pick_B1 in [0, 1) (and class_B) -> D(mean + L noise) in [-1, 1], of the component that the number picks.

    L is taken once, here: a graph has no factorisations.
    """

    factor_RZZ: Tensor
    cdf_KM: Tensor

    def __init__(self, family: "Autoencoder") -> None:
        super().__init__()
        self.decoder = family.decoder
        self.spec = family.spec
        self.density = family.density
        self.register_buffer("factor_RZZ", family.density.factor(), persistent=False)
        self.register_buffer("cdf_KM", family.density.shares().cumsum(1), persistent=False)

    def forward(self, noise_BZ: Tensor, pick_B1: Tensor, condition_B: Tensor | None = None) -> Tensor:
        class_B = torch.zeros_like(noise_BZ[:, 0], dtype=torch.int64) if condition_B is None else condition_B
        components = self.density.components
        picked_B = (self.cdf_KM.index_select(0, class_B) <= pick_B1).sum(1).clamp(max=components - 1)
        row_B = class_B * components + picked_B
        factor_BZZ, mean_BZ = self.factor_RZZ.index_select(0, row_B), self.density.mean_RZ.index_select(0, row_B)
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
        self.density = CodeDensity(classes=classes, size=config.latent, decay=config.moments_decay, components=config.components)

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

    @torch.no_grad()
    def _measure(self, x_BCHW: Tensor, z_BZ: Tensor, labels_B: Tensor | None) -> None:
        """The codes of clean images: those of corrupted ones lie elsewhere."""
        del z_BZ
        self.density.measure(self.encode(x_BCHW, labels_B), labels_B)
