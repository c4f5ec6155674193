"""What is read of a model while it trains: the Frechet distance of some samples on fixed noise, and whether they have collapsed.

The distance, by which weights are kept, is on features of a random network (random_features.py) and to training items: the proof
uses neither. The trained network, which the proof uses, tells collapse alone, by wide margins: from poor quality by what as many
real images get (a part of the reference, held against the rest):

    diversity < 1/2                    the samples resemble each other more than images of this data do
    coverage < 0.4 precision           they look real, but lie near far fewer real images than as many real-looking images should
    classes < 3/4                      a classifier trained on the data's labels sees fewer of them than in as many real images
                                       (the last two asked only of samples with a precision of 0.3 or more)

Of many modes that differ little, in a space where images of one mode already lie far apart, nearest neighbours see few lost:
there the labels tell, as the count of classes does for Stacked MNIST (Metz et al. 2017, arXiv:1611.02163, section 3.3).

Precision and coverage are those of the scorecard (manifold.py), each over its real value. Noise has no precision, so it is not
accused; a model of fewer modes than the data keeps its precision and loses coverage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.protocols import ItemSplit
from components.core.records import Reading
from components.evaluation.bootstrap import Floats
from components.evaluation.chosen import choose
from components.evaluation.distances import Gaussian, frechet, influence
from components.evaluation.manifold import Manifold, inside
from components.evaluation.neighbours import squared_distances
from components.evaluation.random_features import RandomFeatures

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor

REFERENCE_ITEMS = 2000
DIVERSITY_LEAST = 0.5
PRECISION_LEAST = 0.3
COVERAGE_LEAST = 0.4  # of the share that samples of this precision should reach
CLASSES_LEAST = 0.75
CLASSES_DRAWS = 32  # of real images, for the number of classes that as many show


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
    """Stored to a Reading. Distances are comparable with each other for one number of images, and with no scorecard."""

    def __init__(self, extractor: "Extractor", reference: Stored) -> None:
        self.extractor = extractor
        self.random = RandomFeatures(reference, extractor.record.item, device=extractor.device)
        self.reference = Gaussian.of(self.random(reference))
        self.features_MD = extractor.features(reference).astype(np.float64)
        self.classes_M = _classes(extractor, reference)
        self._real: dict[int, tuple[Manifold, Shares, float]] = {}  # by the number of images

    @classmethod
    def of(cls, extractor: "Extractor", split: ItemSplit, *, seed: int = 0) -> "FixedNoiseQuality":
        """The signal against at most 2,000 images of a split: best one that the scorecard does not use."""
        chosen = choose(split, REFERENCE_ITEMS, seed=seed)  # in the order of the split, which may go class by class
        return cls(extractor, chosen[np.random.default_rng(seed).permutation(len(chosen))])

    def __call__(self, images: Stored) -> Reading:
        features, drawn = self.extractor.features(images), self.random(images).astype(np.float64)
        if not (np.isfinite(features).all() and np.isfinite(drawn).all()):
            return Reading(distance=float("nan"))
        if len(images) not in self._real:
            self._real[len(images)] = self._measure(len(images))
        manifold, real, real_classes = self._real[len(images)]
        ours = Shares.of(features[: self._held(len(images))].astype(np.float64), manifold)  # of as many as the real ones
        diversity, precision, coverage = (
            ours.diversity / max(real.diversity, 1e-12),
            ours.precision / max(real.precision, 1e-12),
            ours.coverage / max(real.coverage, 1e-12),
        )
        gaussian, seen = Gaussian.of(drawn), _classes(self.extractor, images)
        classes = 1.0 if seen is None else len(np.unique(seen)) / real_classes
        return Reading(
            distance=frechet(self.reference, gaussian),
            influence=tuple(influence(drawn, gaussian, self.reference).tolist()),
            diversity=diversity,
            precision=precision,
            coverage=coverage,
            classes=classes,
            collapse=_collapse(diversity=diversity, precision=precision, coverage=coverage, classes=classes),
        )

    def distance_to(self, others: Stored) -> Callable[[Stored], float]:
        """What tells the distance of items to others than the training items, on the same random features."""
        known = Gaussian.of(self.random(others))
        return lambda images: frechet(known, Gaussian.of(self.random(images)))

    def _measure(self, n: int) -> tuple[Manifold, Shares, float]:
        """The manifold of the reference without n of its images (a third of them at most), what those get, and the mean
        number of classes seen in n images."""
        held = self._held(n)
        manifold = Manifold.of(self.features_MD[held:])
        return manifold, Shares.of(self.features_MD[:held], manifold), self._classes_among(n)

    def _held(self, n: int) -> int:
        return min(n, len(self.features_MD) // 3)

    def _classes_among(self, n: int) -> float:
        if self.classes_M is None:
            return 1.0
        rng = np.random.default_rng(0)
        draws = (rng.choice(self.classes_M, n, replace=n > len(self.classes_M)) for _ in range(CLASSES_DRAWS))
        return float(np.mean([len(np.unique(draw)) for draw in draws]))


def _classes(extractor: "Extractor", images: Stored) -> npt.NDArray[np.int64] | None:
    """The class of each image as the extractor sees it, or None where it knows no classes."""
    probabilities_NK = extractor.probabilities(images)
    return None if probabilities_NK is None else probabilities_NK.argmax(axis=1)


def _collapse(*, diversity: float, precision: float, coverage: float, classes: float) -> str:
    """Why such samples count as collapsed, or nothing."""
    if diversity < DIVERSITY_LEAST:
        return f"the samples are {diversity:.2f} times as diverse as the data"
    if precision < PRECISION_LEAST:
        return ""
    if coverage < COVERAGE_LEAST * precision:
        return (
            f"the samples look real ({precision:.2f} of the data's precision) but cover {coverage:.2f} of what as much data does"
        )
    if classes < CLASSES_LEAST:
        return f"the samples look real but show {classes:.2f} of the classes that as much data does"
    return ""
