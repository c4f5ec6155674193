"""Bits/dim of held-out items under the model, where its card claims a likelihood: an upper bound where the card says `bound`.

bits/dim = -log2 p(x) / D       of 8-bit values, D of them an item
"""

import math
from typing import Any

import torch

from components.core.metrics import Words
from components.core.records import Metric
from components.evaluation.evaluated import Evaluated
from components.evaluation.held_out import held_out_batches

WORDS = (
    Words(
        "bits_per_dim",
        "Bits/dim",
        "held-out items under the model; an upper bound where the family has a bound",
        better="lower",
        order=80,
    ),
)


@torch.no_grad()
def compute(seen: Evaluated) -> dict[str, Metric]:
    """Of the model itself, where it is given."""
    if seen.model is None or seen.model.card.likelihood == "none":
        return {}
    model: Any = seen.model  # log_prob is there because the card says so
    nats = [model.log_prob(x_BCHW, *labels, rng=rng) for x_BCHW, labels, rng in held_out_batches(seen)]
    bits_N = -torch.cat(nats).double().cpu().numpy() / (math.log(2) * math.prod(seen.model.spec.shape))
    return {"bits_per_dim": seen.boot.mean(bits_N, stream="likelihood")}
