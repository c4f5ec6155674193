"""The squared maximum mean discrepancy of two sets of features, without bias at any counts, and the ratio of two of them.

N generated and M real items, D dimensions, F numbers of a map. With a kernel k(x, y) = phi(x).phi(y) and mu the mean of phi,

    MMD^2(P, Q) = |mu_P - mu_Q|^2,    estimated without bias by leaving out the pairs of an item with itself

(Gretton 2012, 'A kernel two-sample test', eq. 3; on the features of a network: Binkowski 2018, arXiv 1801.01401, and Jayasumana
2024, arXiv 2401.09603). phi are random Fourier features of a Gaussian kernel (Rahimi and Recht 2007), so that the cost grows with
the items and not with their pairs; |phi| = 1. Such a kernel is bounded: what a few items far out add to the distance and to its
spread is bounded too. docs/decisions/0003-gates.md has what else was tried.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from components.evaluation.bootstrap import Floats

FREQUENCIES = 512  # F / 2
SEED = 20  # of the frequencies: one kernel for all that is compared
KERNEL_ITEMS = 2000  # training items that a kernel is made from
SHRUNK = 0.02  # of the largest variance, added to each before features are divided by their deviation
WIDTH = 0.5  # of the kernel, in medians of the distance between two items
MEDIAN_ITEMS = 1000
SPREAD_ITEMS = 1000  # reference items whose pairs say how far real items differ among themselves
BLOCK = 2048  # items mapped together
TINY = 1e-30  # for features that do not vary at all


@dataclass(frozen=True)
class Kernel:
    """phi. What makes it comes from training items alone, so it depends on nothing that is measured by it."""

    mean_D: Floats
    frequencies_DK: npt.NDArray[np.float32]

    @classmethod
    def of(cls, training_ND: npt.NDArray[np.floating]) -> "Kernel":
        """Features are turned to their principal directions and divided by (variance + SHRUNK largest variance)^(1/2)."""
        x = training_ND.astype(np.float64)
        variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(x, rowvar=False)))
        scale = np.sqrt(np.clip(variances, 0, None) + SHRUNK * max(float(variances[-1]), TINY))
        whitening_DD = directions / scale
        some = (x - x.mean(axis=0))[np.random.default_rng(SEED).permutation(len(x))[:MEDIAN_ITEMS]] @ whitening_DD
        apart = np.linalg.norm(some[: len(some) // 2] - some[len(some) // 2 : len(some) // 2 * 2], axis=1)
        width = WIDTH * float(np.median(apart)) or 1.0
        drawn_DK = np.random.default_rng(SEED).standard_normal((x.shape[1], FREQUENCIES))
        return cls(x.mean(axis=0), (whitening_DD @ drawn_DK / width).astype(np.float32))

    def phi(self, features_ND: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """[N, F], of length 1 each."""
        angles_NK = (features_ND - self.mean_D).astype(np.float32) @ self.frequencies_DK
        waves_NF = np.concatenate([np.cos(angles_NK), np.sin(angles_NK)], axis=1)
        return (waves_NF / math.sqrt(FREQUENCIES)).astype(np.float32, copy=False)

    def mean(self, features_ND: npt.NDArray[np.floating]) -> Floats:
        """mu: [F]."""
        total_F = np.zeros(2 * FREQUENCIES)
        for at in range(0, len(features_ND), BLOCK):
            total_F += self.phi(features_ND[at : at + BLOCK]).sum(axis=0, dtype=np.float64)
        return total_F / len(features_ND)

    def along(self, features_ND: npt.NDArray[np.floating], directions_FK: Floats) -> Floats:
        """phi . direction of each item: [N, K]."""
        wanted = directions_FK.astype(np.float32)
        blocks = [self.phi(features_ND[at : at + BLOCK]) @ wanted for at in range(0, len(features_ND), BLOCK)]
        return np.concatenate(blocks).astype(np.float64)


@dataclass(frozen=True)
class Real:
    """The reference items under a kernel. `floor`: twice the standard error of the distance of real items to these, where the
    reference is all that is short. What is nearer than that is not told from the data."""

    kernel: Kernel
    features_MD: Floats
    mean_F: Floats
    floor: float

    @classmethod
    def of(cls, kernel: Kernel, features_MD: Floats) -> "Real":
        return cls(
            kernel, features_MD, kernel.mean(features_MD), 2 * math.sqrt(2 * _overlap(kernel, features_MD)) / len(features_MD)
        )


def pooled_floor(parts: Sequence[Real]) -> float:
    """That of the mean by their items (Distance.pooled)."""
    m = sum(len(each.features_MD) for each in parts)
    return math.sqrt(sum((len(each.features_MD) / m * each.floor) ** 2 for each in parts))


def _overlap(kernel: Kernel, features_MD: Floats) -> float:
    """tr S^2, S the covariance of phi: the mean square of the centred kernel over pairs of different items."""
    phi_MF = kernel.phi(features_MD[np.random.default_rng(SEED).permutation(len(features_MD))[:SPREAD_ITEMS]])
    centred = phi_MF - phi_MF.mean(axis=0)
    squares_MM = (centred @ centred.T).astype(np.float64) ** 2
    n = len(squares_MM)
    return float((squares_MM.sum() - np.trace(squares_MM)) / (n * (n - 1)))


@dataclass(frozen=True)
class Distance:
    """MMD^2 of samples to the reference, and how it moves with the weight of each sample and each reference item, each less its
    mean: the values of the jackknife, whose variance is never too small in the mean (Efron and Stein 1981)."""

    value: float
    by_sample_N: Floats
    by_real_M: Floats

    @classmethod
    def of(cls, features_ND: npt.NDArray[np.floating], real: Real) -> "Distance":
        n, m = len(features_ND), len(real.features_MD)
        ours_F, theirs_F = real.kernel.mean(features_ND), real.mean_F
        within = [(k * float(mu @ mu) - 1) / (k - 1) for k, mu in ((n, ours_F), (m, theirs_F))]
        directions_F2 = np.stack([ours_F, theirs_F], axis=1)
        at_ours_N2 = real.kernel.along(features_ND, directions_F2)
        at_real_M2 = real.kernel.along(real.features_MD, directions_F2)
        by_sample_N = 2 * (at_ours_N2[:, 0] * n / (n - 1) - at_ours_N2[:, 1])
        by_real_M = 2 * (at_real_M2[:, 1] * m / (m - 1) - at_real_M2[:, 0])
        value = within[0] + within[1] - 2 * float(ours_F @ theirs_F)
        return cls(value, by_sample_N - by_sample_N.mean(), by_real_M - by_real_M.mean())

    @classmethod
    def pooled(cls, parts: "Sequence[Distance]") -> "Distance":
        """Of the same samples to parts of the reference, each under a kernel of its own: the mean by their items. The values of
        real items are scaled so that `covariance` is that of the mean, whose parts are independent."""
        counts = [len(each.by_real_M) for each in parts]
        m = sum(counts)
        value = sum(c / m * each.value for c, each in zip(counts, parts, strict=True))
        by_sample_N = np.sum([c / m * each.by_sample_N for c, each in zip(counts, parts, strict=True)], axis=0)
        by_real = [each.by_real_M * math.sqrt(c * (m - 1) / (m * (c - 1))) for c, each in zip(counts, parts, strict=True)]
        return cls(value, by_sample_N, np.concatenate(by_real))

    def covariance(self, other: "Distance") -> float:
        """Of two distances to one reference, whose samples are of the same seeds one by one; of one with itself its variance."""
        n, m = len(self.by_sample_N), len(self.by_real_M)
        of_samples = float(self.by_sample_N @ other.by_sample_N) / (n * (n - 1))
        return of_samples + float(self.by_real_M @ other.by_real_M) / (m * (m - 1))


def ratio_interval(above: Distance, below: Distance, *, floor: float, z: tuple[float, float]) -> tuple[float, float, float]:
    """above / max(below, floor), and the ends of its interval, at so many standard errors below and above.

    Of above / below by Fieller 1954 ('Some problems in interval estimation'): the ratios R for which above - R below may be 0.
    Where below is not surely above 0 that has no upper end; above / floor always has one. The ratio is the smaller of the two,
    so it is above the smaller of the lower ends unless its own errs. Its upper end is that of above / below where below is surely
    beyond the floor (at a quarter of the error), that of above / floor where below is surely nearer. Else either may be the
    ratio's, and the smaller of two ends errs where either does: each has half of the error (Bonferroni).
    """
    a, b = above.value, below.value
    aa, ab, bb = above.covariance(above), above.covariance(below), below.covariance(below)
    value = max(0.0, a) / max(b, floor)
    low = min(_fieller(a, b, aa, ab, bb, z[0], upper=False), max(0.0, a - z[0] * math.sqrt(aa)) / floor)

    def highs(score: float) -> tuple[float, float]:
        return _fieller(a, b, aa, ab, bb, score, upper=True), max(0.0, a + score * math.sqrt(aa)) / floor

    if abs(b - floor) > _score_of(z[1], share=1 / 4) * math.sqrt(bb):
        high = highs(z[1])[int(b < floor)]
    else:
        high = min(highs(_score_of(z[1], share=1 / 2)))
    return value, min(low, value), max(high, value)


def _score_of(z: float, *, share: float) -> float:
    """The score of this share of the error that z leaves on one side."""
    return -NormalDist().inv_cdf(share * NormalDist().cdf(-z))


def _fieller(a: float, b: float, aa: float, ab: float, bb: float, z: float, *, upper: bool) -> float:
    """The end of {R >= 0: |a - R b| <= z sqrt(aa - 2 R ab + R^2 bb)} on one side."""
    squared, linear, constant = b**2 - z**2 * bb, a * b - z**2 * ab, a**2 - z**2 * aa
    if upper and (squared <= 0 or b <= 0):
        return math.inf
    if not upper and (constant <= 0 or a <= 0):
        return 0.0
    root = math.sqrt(max(0.0, linear**2 - squared * constant))
    if upper:
        return (linear + root) / squared
    return constant / (linear + root) if linear + root > 0 else math.inf
