"""Nearest-neighbour balls in feature space, and how many items lie in them (in every resample: balls.py).

N generated, M real, D dimensions. Precision and recall: Kynkaanniemi 2019 (arXiv 1904.06991), k = 3. Density and coverage:
Naeem 2020 (arXiv 2002.09797), k = 5.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.evaluation.bootstrap import Floats
from components.evaluation.neighbours import Indices, nearest, row_blocks, squared_distances

PRECISION_K = 3
COVERAGE_K = 5
NEIGHBOURS = 24  # kept of each point: of a half of a set the 5th neighbour is among them but for one point in a thousand


@dataclass(frozen=True)
class Manifold:
    """Points, the squared distances to their nearest neighbours among themselves, ascending, and which those are."""

    points_ND: Floats
    squares_NK: Floats
    others_NK: Indices

    @classmethod
    def of(cls, features_ND: npt.NDArray[np.floating]) -> "Manifold":
        """The manifold that these features span. Needs more than COVERAGE_K items."""
        points = features_ND.astype(np.float64)
        distances, others = nearest(points, [points], k=min(NEIGHBOURS, len(points) - 1), skip_self=True)
        return cls(points, distances**2, others)

    def radii2(self, k: int) -> Floats:
        """The squared radii of the balls that reach to the k-th neighbour: [N]."""
        return self.squares_NK[:, k - 1]


def inside(features_ND: Floats, real: Manifold) -> tuple[float, float]:
    """Precision and coverage alone, without intervals: what a reading during training needs."""
    precise, closest2 = 0, np.full(len(real.points_ND), np.inf)
    for rows in row_blocks(len(features_ND), len(real.points_ND)):
        squares = squared_distances(features_ND[rows], real.points_ND)
        precise += int((squares <= real.radii2(PRECISION_K)).any(axis=1).sum())
        closest2 = np.minimum(closest2, squares.min(axis=0))
    return precise / len(features_ND), float((closest2 <= real.radii2(COVERAGE_K)).mean())
