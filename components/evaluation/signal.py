"""What is read of a model while it trains: FD-local of a few samples on fixed noise, and whether they have collapsed.

Collapse is told from poor quality by what as many real images get (a part of the reference, held against the rest):

    diversity < 1/2                    the samples resemble each other more than images of this data do
    coverage < precision / 2           they look real, but lie near far fewer real images than as many real-looking images should
                                       (asked only of samples with a precision of 0.3 or more)

Precision and coverage are those of the scorecard (manifold.py), each over its real value. Noise has no precision, so it is not
accused; a model of fewer modes than the data keeps its precision and loses coverage.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from components.core.protocols import Images, ImageSplit
from components.core.records import Reading
from components.evaluation.bootstrap import Floats
from components.evaluation.distances import Gaussian, frechet
from components.evaluation.manifold import Manifold, inside
from components.evaluation.neighbours import squared_distances
from components.evaluation.yardstick import choose

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor

REFERENCE_ITEMS = 2000
DIVERSITY_LEAST = 0.5
PRECISION_LEAST = 0.3
COVERAGE_LEAST = 0.5  # of the share that samples of this precision should reach


@dataclass(frozen=True)
class Shares:
    """How spread items are, how many lie within the real manifold, and how much of it they reach."""

    diversity: float
    precision: float
    coverage: float

    @classmethod
    def of(cls, features_ND: Floats, real: Manifold) -> "Shares":
        distances_NN = np.sqrt(np.maximum(squared_distances(features_ND, features_ND), 0))
        return cls(float(distances_NN.mean()), *inside(features_ND, real))


class FixedNoiseQuality:
    """Images to a Reading. Distances are comparable with each other for one number of images, and with no scorecard."""

    def __init__(self, extractor: "Extractor", reference_features: npt.NDArray[np.floating]) -> None:
        self.extractor = extractor
        self.features_MD = reference_features.astype(np.float64)
        self.reference = Gaussian.of(reference_features)
        self._real: tuple[Manifold, Shares] | None = None

    @classmethod
    def of(cls, extractor: "Extractor", split: ImageSplit, *, seed: int = 0) -> "FixedNoiseQuality":
        """The signal against at most 2,000 images of a split: best one that the scorecard does not use."""
        return cls(extractor, extractor.features(choose(split, REFERENCE_ITEMS, seed=seed)))

    def __call__(self, images: Images) -> Reading:
        features = self.extractor.features(images)
        if not np.isfinite(features).all():
            return Reading(distance=float("nan"))
        manifold, real = self._real or self._measure(len(images))
        ours = Shares.of(features.astype(np.float64), manifold)
        diversity, precision, coverage = (
            ours.diversity / max(real.diversity, 1e-12),
            ours.precision / max(real.precision, 1e-12),
            ours.coverage / max(real.coverage, 1e-12),
        )
        return Reading(
            distance=frechet(self.reference, Gaussian.of(features)),
            diversity=diversity,
            precision=precision,
            coverage=coverage,
            collapse=_collapse(diversity=diversity, precision=precision, coverage=coverage),
        )

    def _measure(self, n: int) -> tuple[Manifold, Shares]:
        """The manifold of the reference without n of its images (a third of them at most), and what those get."""
        held = min(n, len(self.features_MD) // 3)
        manifold = Manifold.of(self.features_MD[held:])
        self._real = manifold, Shares.of(self.features_MD[:held], manifold)
        return self._real


def _collapse(*, diversity: float, precision: float, coverage: float) -> str:
    """Why such samples count as collapsed, or nothing."""
    if diversity < DIVERSITY_LEAST:
        return f"the samples are {diversity:.2f} times as diverse as the data"
    if precision >= PRECISION_LEAST and coverage < COVERAGE_LEAST * precision:
        return (
            f"the samples look real ({precision:.2f} of the data's precision) but cover {coverage:.2f} of what as much data does"
        )
    return ""
