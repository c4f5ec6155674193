"""What the codes of an autoencoder are drawn from: a mixture of Gaussians for each class, fitted to the codes of the data.

    p(z | class) = sum_m share_m N(z; mean_m, L_m L_m^T),     z = mean_m + L_m noise,  m by its share

Ex-post density estimation (Ghosh et al. 2020, arXiv:1903.12436, section 4): what the data's codes are is known once the
autoencoder has learnt, whatever its training hoped them to be. Of a VAE they are the aggregate posterior, mean_n q(z|x_n).

B batch, C channels, H height, W width, N codes, Z latent size, K classes (1 without), M components of each, R = K M.
"""

import math
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.family import Batch
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.pyramid import Decoder, with_class

CODES, CODES_OF_CLASS = 4096, 256  # of the training images that the Gaussians are fitted to: in all, or of each class
CODES_EACH, CODES_LEAST = 4, 40  # codes that a component needs, for each number of a code, and at least
FLOOR = 1e-3  # added to the variances, as a share of the codes' own
ROUNDS_END = 0.01  # nats a code: the gain of a round of expectation-maximisation below which held-out codes gain nothing more


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

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        """What one code is drawn from: its noise, and the number in [0, 1) that picks a component."""
        return (
            NoiseInput(name="noise", shape=(self.mean_RZ.shape[1],)),
            NoiseInput(name="pick", shape=(1,), distribution="uniform"),
        )

    def log_prob(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """log p(z | class)_B in nats."""
        class_B = z_BZ.new_zeros(len(z_BZ), dtype=torch.int64) if labels_B is None else labels_B
        log_p_B = z_BZ.new_empty(len(z_BZ))
        for kind in class_B.unique().tolist():
            log_p_B[class_B == kind] = self._log_prob_of(kind, z_BZ[class_B == kind])
        return log_p_B

    def fit_to(self, batches: Iterator[Batch], code_of: Callable[[Batch], Tensor]) -> None:
        """Fit to the codes of these images, or of the first that are enough. `code_of` a batch gives its code_BZ."""
        wanted = max(CODES, CODES_OF_CLASS * self.classes)
        seen: list[tuple[Tensor, Tensor | None]] = []
        while sum(len(z_BZ) for z_BZ, _ in seen) < wanted and (batch := next(batches, None)) is not None:
            seen.append((code_of(batch), batch.condition))
        labels = [labels_B for _, labels_B in seen if labels_B is not None] if self.classes > 1 else []
        self.fit(torch.cat([z_BZ for z_BZ, _ in seen]), torch.cat(labels) if labels else None)

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
            components = min(self.components, len(own) // max(CODES_EACH * z_NZ.shape[1], CODES_LEAST))
            if components > 1:
                shares, means, factors = _mixture(own, components)
            else:
                mean_Z = own.mean(0) if len(own) else z_NZ.mean(0)
                shares, means, factors = torch.ones(1), mean_Z[None], torch.linalg.cholesky(common_ZZ)[None]
            self._take(kind, shares, means, factors)

    def _log_prob_of(self, kind: int, z_BZ: Tensor) -> Tensor:
        rows = kind * self.components + self.share_KM[kind].nonzero()[:, 0]  # those that are in use
        factor_MZZ, away_MZB = self.factor_RZZ[rows], (z_BZ - self.mean_RZ[rows][:, None]).mT
        white_MZB = torch.linalg.solve_triangular(factor_MZZ, away_MZB, upper=False)
        log_volume_M = factor_MZZ.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * z_BZ.shape[1] * math.log(2 * math.pi)
        log_share_M = self.share_KM[kind][self.share_KM[kind] > 0].log()
        return torch.logsumexp((log_share_M - log_volume_M)[:, None] - 0.5 * white_MZB.square().sum(1), 0)

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
    mixture = GaussianMixture(components, reg_covar=FLOOR, tol=ROUNDS_END, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):  # threads that wait for each other: 40 times as long on a busy machine
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred rounds are enough
        found = mixture.fit((z_NZ / spread).numpy())
    means, covariances = torch.from_numpy(found.means_), torch.from_numpy(found.covariances_)
    return torch.from_numpy(found.weights_), spread * means, spread * torch.linalg.cholesky(covariances)


class MixtureSampler(nn.Module):
    """noise_BZ, pick_B1 in [0, 1) (and class_B) -> D(mean + L noise) in [-1, 1], of the component that the number picks."""

    cdf_KM: Tensor

    def __init__(self, decoder: Decoder, density: CodeDensity, spec: DataSpec) -> None:
        super().__init__()
        self.decoder = decoder
        self.spec = spec
        self.density = density
        cdf_KM = density.share_KM.cumsum(1)
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
