"""A quality signal for training: FD-local of a few samples on fixed noise. Tens of milliseconds, lower is better."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from components.core.protocols import Images, ImageSplit
from components.evaluation.distances import Gaussian, frechet
from components.evaluation.yardstick import choose

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor

REFERENCE_ITEMS = 2000


class FixedNoiseQuality:
    """Images to FD-local. Values are comparable with each other for one number of images, and with no scorecard."""

    def __init__(self, extractor: "Extractor", reference_features: npt.NDArray[np.floating]) -> None:
        self.extractor = extractor
        self.reference = Gaussian.of(reference_features)

    @classmethod
    def of(cls, extractor: "Extractor", split: ImageSplit, *, seed: int = 0) -> "FixedNoiseQuality":
        """The signal against at most 2,000 images of a split: best one that the scorecard does not use."""
        return cls(extractor, extractor.features(choose(split, REFERENCE_ITEMS, seed=seed)))

    def __call__(self, images: Images) -> float:
        return frechet(self.reference, Gaussian.of(self.extractor.features(images)))
