"""Toys of the plane whose density is known: mixtures of many equal Gaussians, so that one formula serves all of them.

    p(x) = 1/M sum_m N(x; c_m, sigma^2 I)

A point is an image of one pixel with two channels, of 8-bit levels k = round((x + 1) 127.5). The mass of a pair of levels is the
integral of p over the values that round to it; with Phi the normal distribution and l, u the ends of a level's bin, of which the
outermost reach to infinity,

    P(k) = 1/M sum_m prod_d [Phi((u(k_d) - c_md) / sigma) - Phi((l(k_d) - c_md) / sigma)]

M centres, N points, K = 256 levels. The first M / 8 centres are a toy's first part, the next its second: all have one mass.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, ndtr

from components.core.arrays import Stored
from components.core.units import to_stored
from components.modalities.image.spec import ImageSpec

Floats = npt.NDArray[np.float64]
LEVELS = 256
PARTS = 8
POINT = ImageSpec(channels=2, height=1, width=1)  # its two numbers are its channels
NEAR = 3.0  # deviations from a centre; 98.9 % of a Gaussian in the plane lie within


@dataclass(frozen=True)
class Toy:
    """A mixture of Gaussians of one deviation and one weight, within [-1, 1] but for a negligible rest."""

    name: str
    centres_M2: Floats
    sigma: float

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """points_N2, real."""
        chosen_N = rng.integers(len(self.centres_M2), size=n)
        return self.centres_M2[chosen_N] + self.sigma * rng.standard_normal((n, 2))

    def images(self, n: int, rng: np.random.Generator) -> Stored:
        """Points as images of one pixel, uint8 [N, 1, 1, 2]."""
        return to_stored(self.draw(n, rng).astype(np.float32)[:, :, None, None], POINT)

    def log_density(self, points_N2: Floats) -> Floats:
        """log p in nats, of each point."""
        normal = -2 * math.log(self.sigma) - math.log(2 * math.pi) - math.log(len(self.centres_M2))
        exponents_NM = self._squares(points_N2) / (-2 * self.sigma**2)
        density_N: Floats = logsumexp(exponents_NM, axis=1) + normal
        return density_N

    def masses(self) -> Floats:
        """P_KK of every pair of levels, the first channel's first."""
        ends = np.concatenate([[-np.inf], (np.arange(1, LEVELS) - 0.5) / 127.5 - 1, [np.inf]])
        x_MK, y_MK = (np.diff(ndtr((ends - c_M[:, None]) / self.sigma), axis=1) for c_M in self.centres_M2.T)
        masses_KK: Floats = x_MK.T @ y_MK / len(self.centres_M2)
        return masses_KK

    def entropy_bits(self) -> float:
        """Of the levels of a point: what no likelihood can be below in expectation."""
        masses_KK = self.masses()
        return float(-(masses_KK * np.log2(np.maximum(masses_KK, 1e-300))).sum())

    def near(self, points_N2: Floats) -> npt.NDArray[np.bool_]:
        """hits_N8: within three deviations of a centre of which part. The nearest centre decides; none where all are farther."""
        squares_NM = self._squares(points_N2)
        part_N = squares_NM.argmin(1) * PARTS // len(self.centres_M2)
        inside_N = squares_NM.min(1) <= (NEAR * self.sigma) ** 2
        return inside_N[:, None] & (part_N[:, None] == np.arange(PARTS))

    def _squares(self, points_N2: Floats) -> Floats:
        """Squared distances to the centres, squares_NM."""
        squares_NM: Floats = cdist(points_N2, self.centres_M2, "sqeuclidean")
        return squares_NM


def to_points(images: Stored) -> Floats:
    """uint8 [N, 1, 1, 2] -> points_N2 in the middle of their bins."""
    return images.reshape(-1, 2) / 127.5 - 1


def ring() -> Toy:
    """Eight Gaussians on a circle, ten deviations apart: what mode collapse is shown on (Metz et al. 2017, arXiv:1611.02163)."""
    angles_M = np.arange(PARTS) * 2 * math.pi / PARTS
    return Toy("ring", 0.7 * np.stack([np.cos(angles_M), np.sin(angles_M)], 1), 0.05)


def spiral(*, turns: float = 1.5, each: int = 128) -> Toy:
    """Two arms of an Archimedean spiral, evenly filled, with noise: thin and curved, so that nothing is separable."""
    share_M = np.linspace(0.06, 1, each)  # of the arc's length, which grows with the square of the radius
    radius_M, angle_M = 0.85 * np.sqrt(share_M), 2 * math.pi * turns * np.sqrt(share_M)
    arm_M2 = radius_M[:, None] * np.stack([np.cos(angle_M), np.sin(angle_M)], 1)
    return Toy("spiral", np.concatenate([arm_M2, -arm_M2]), 0.03)


def board(*, square: float = 0.375, each: int = 12) -> Toy:
    """The eight dark squares of a board of four by four, evenly filled but for soft edges: sharp where it ends."""
    corners = [((i - 2) * square, (j - 2) * square) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    inside = (np.arange(each) + 0.5) / each * square
    lattice = np.stack(np.meshgrid(inside, inside), -1).reshape(-1, 2)
    return Toy("board", np.concatenate([lattice + corner for corner in corners]), 0.02)


TOYS = {toy.name: toy for toy in (ring(), spiral(), board())}
