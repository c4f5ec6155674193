"""Do a graph and the torch model behind it score alike, on the same seeds?

A graph may agree pixel by pixel on a few items and still draw another distribution, where a loop goes astray on the rest.
"""

from typing import TYPE_CHECKING

import numpy as np

from components.core.protocols import Stored
from components.core.records import Agreement
from components.evaluation.distances import Gaussian, frechet
from components.evaluation.manifold import Manifold, inside

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor


def agreement(graph: Stored, torch: Stored, *, train: Stored, reference: Stored, extractor: "Extractor") -> Agreement:
    """Score both, stored items of the same seeds and conditions, and as many items of the training set beside them."""
    real_MD, ours_ND, theirs_ND, train_ND = (
        extractor.features(images).astype(np.float64) for images in (reference, graph, torch, train)
    )
    real, manifold = Gaussian.of(real_MD), Manifold.of(real_MD[: len(graph)])
    shares = [inside(features_ND, manifold) for features_ND in (ours_ND, theirs_ND)]
    ours, theirs, those = (frechet(Gaussian.of(features_ND), real) for features_ND in (ours_ND, theirs_ND, train_ND))
    return Agreement(
        items=len(graph),
        fd=(ours, theirs),
        fd_real=those,
        precision=(shares[0][0], shares[1][0]),
        coverage=(shares[0][1], shares[1][1]),
    )
