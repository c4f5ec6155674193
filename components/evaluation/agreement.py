"""Do a graph and the torch model behind it score alike, on the same seeds?

A graph may agree pixel by pixel on a few items and still draw another distribution, where a loop goes astray on the rest.
"""

from typing import TYPE_CHECKING

import numpy as np

from components.core.arrays import Stored
from components.core.records import Agreement
from components.evaluation.chosen import places
from components.evaluation.distances import Gaussian, frechet
from components.evaluation.manifold import Manifold, inside

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor


def agreement(
    graph: Stored, torch: Stored, *, train: Stored, reference: Stored, extractor: "Extractor", seed: int = 0
) -> Agreement:
    """Score both, stored items of the same seeds and conditions, and as many items of the training set beside them.

    Precision and coverage are of as many reference items as there are samples, drawn by `seed`: the first ones of a split that
    goes class by class would be of one class.
    """
    real_MD, ours_ND, theirs_ND, train_ND = (
        extractor.features(images).astype(np.float64) for images in (reference, graph, torch, train)
    )
    real, manifold = Gaussian.of(real_MD), Manifold.of(real_MD[places(len(real_MD), len(graph), seed=seed)])
    shares = [inside(features_ND, manifold) for features_ND in (ours_ND, theirs_ND)]
    ours, theirs, those = (frechet(Gaussian.of(features_ND), real) for features_ND in (ours_ND, theirs_ND, train_ND))
    return Agreement(
        items=len(graph),
        fd=(ours, theirs),
        fd_real=those,
        precision=(shares[0][0], shares[1][0]),
        coverage=(shares[0][1], shares[1][1]),
    )
