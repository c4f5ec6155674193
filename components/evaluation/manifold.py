"""Nearest-neighbour balls in feature space, and which items lie in whose.

N generated, M real, D dimensions. Precision and recall: Kynkaanniemi 2019 (arXiv 1904.06991), k = 3. Density and coverage:
Naeem 2020 (arXiv 2002.09797), k = 5.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.evaluation.bootstrap import Floats
from components.evaluation.neighbours import nearest, row_blocks, squared_distances

PRECISION_K = 3
COVERAGE_K = 5


@dataclass(frozen=True)
class Manifold:
    """Points and the squared radii of their balls: the distances to their 3rd and 5th neighbours among themselves."""

    points_ND: Floats
    radius2_precision_N: Floats
    radius2_coverage_N: Floats

    @classmethod
    def of(cls, features_ND: npt.NDArray[np.floating]) -> "Manifold":
        """The manifold that these features span. Needs more than COVERAGE_K items."""
        points = features_ND.astype(np.float64)
        distances, _ = nearest(points, [points], k=COVERAGE_K, skip_self=True)
        return cls(points, distances[:, PRECISION_K - 1] ** 2, distances[:, COVERAGE_K - 1] ** 2)


def inside(features_ND: Floats, real: Manifold) -> tuple[float, float]:
    """Precision and coverage alone, without intervals: what a reading during training needs."""
    precise, closest2 = 0, np.full(len(real.points_ND), np.inf)
    for rows in row_blocks(len(features_ND), len(real.points_ND)):
        squares = squared_distances(features_ND[rows], real.points_ND)
        precise += int((squares <= real.radius2_precision_N).any(axis=1).sum())
        closest2 = np.minimum(closest2, squares.min(axis=0))
    return precise / len(features_ND), float((closest2 <= real.radius2_coverage_N).mean())


@dataclass(frozen=True)
class Hits:
    """What was found item by item. N generated, M real; two artifacts beside the same M can be compared item by item."""

    precise_N: npt.NDArray[np.bool_]
    inside_N: Floats  # real balls (k = 5) that an item lies in
    recalled_M: npt.NDArray[np.bool_]
    covered_M: npt.NDArray[np.bool_]


def hits(generated: Manifold, real: Manifold) -> Hits:
    """Which items lie in whose balls.

    Give as many generated as real items: coverage and recall rise with the number of samples, whatever their quality.
    """
    n, m = len(generated.points_ND), len(real.points_ND)
    precise = np.zeros(n, bool)
    inside = np.zeros(n)
    recalled = np.zeros(m, bool)
    closest2 = np.full(m, np.inf)
    for rows in row_blocks(n, m):
        squares = squared_distances(generated.points_ND[rows], real.points_ND)
        precise[rows] = (squares <= real.radius2_precision_N).any(axis=1)
        inside[rows] = (squares <= real.radius2_coverage_N).sum(axis=1)
        recalled |= (squares <= generated.radius2_precision_N[rows, None]).any(axis=0)
        closest2 = np.minimum(closest2, squares.min(axis=0))
    return Hits(precise, inside, recalled, closest2 <= real.radius2_coverage_N)
