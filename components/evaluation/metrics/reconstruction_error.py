"""How well the model rebuilds held-out items from their codes, where its card claims a latent space.

error = sqrt(mean (decode(encode(x)) - x)^2)      in grey levels, 0 to 255
"""

import math
from typing import Any

import numpy as np
import torch

from components.core.metrics import Words
from components.core.records import Metric
from components.evaluation.evaluated import Evaluated
from components.evaluation.held_out import held_out_batches

WORDS = (
    Words(
        "reconstruction_error",
        "Reconstruction error",
        "root mean square of held-out items",
        unit="grey levels of 255",
        better="lower",
        order=90,
    ),
)


@torch.no_grad()
def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of the model itself, where it is given."""
    if seen.model is None or not seen.model.card.latent:
        return {}
    model: Any = seen.model  # encode and decode are there where the card says so
    errors = [
        (model.decode(model.encode(x_BCHW, *labels), *labels) - x_BCHW).square().flatten(1).mean(1)
        for x_BCHW, labels, _ in held_out_batches(seen)
    ]
    squares_N = torch.cat(errors).double().cpu().numpy() * seen.model.spec.item.storage.scale**2
    root, roots_R = math.sqrt(squares_N.mean()), np.sqrt(seen.boot.means(squares_N, stream="likelihood"))
    return {"reconstruction_error": seen.boot.metric(root, roots_R, n=len(squares_N), least=0)}
