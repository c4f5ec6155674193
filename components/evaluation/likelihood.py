"""What only the model itself can tell of images it was not trained on: bits a dimension, and how well it rebuilds them.

    bits/dim = -log2 p(x) / (C H W)       of 8-bit images; an upper bound where the card says `bound`
    error    = sqrt(mean (decode(encode(x)) - x)^2)      in grey levels, 0 to 255

B batch, N images, C channels, H height, W width.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.core.family import Family, to_data_units
from components.core.protocols import ImageSplit
from components.core.records import Metric
from components.evaluation.bootstrap import Bootstrap

IMAGES_MAX = 1000
BATCH = 100


@torch.no_grad()
def model_metrics(family: Family, held_out: ImageSplit, *, boot: Bootstrap, device: str = "cpu") -> dict[str, Metric]:
    """`bits_per_dim` where the card claims a likelihood, `reconstruction_error` where it claims a latent space.

    Measured on at most IMAGES_MAX images of `held_out`, the first of an order drawn from the bootstrap's seed.
    """
    model: Any = family.eval().to(device)  # log_prob, encode and decode are there where the card says so
    metrics = {}
    if family.card.likelihood != "none":
        nats = [model.log_prob(x_BCHW, *labels) for x_BCHW, labels in _batches(family, held_out, boot.seed, device)]
        bits_N = -torch.cat(nats).double().cpu().numpy() / (math.log(2) * math.prod(family.spec.shape))
        metrics["bits_per_dim"] = boot.mean(bits_N, stream="likelihood", better="lower")
    if family.card.latent:
        errors = [
            (model.decode(model.encode(x_BCHW, *labels), *labels) - x_BCHW).square().flatten(1).mean(1)
            for x_BCHW, labels in _batches(family, held_out, boot.seed, device)
        ]
        squares_N = torch.cat(errors).double().cpu().numpy() * family.spec.item.storage.scale**2
        means_R = boot.means(squares_N, stream="likelihood")
        root, roots_R = math.sqrt(squares_N.mean()), np.sqrt(means_R)
        metrics["reconstruction_error"] = boot.metric(root, roots_R, n=len(squares_N), better="lower", least=0)
    return metrics


def _batches(family: Family, split: ImageSplit, seed: int, device: str) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """x_BCHW, and (labels_B,) where the family is conditional."""
    chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(split))[:IMAGES_MAX])
    for at in range(0, len(chosen), BATCH):
        batch = chosen[at : at + BATCH]
        labels = split.labels if family.spec.conditional else None
        yield (
            to_data_units(split.take(batch), family.spec.item).to(device),
            () if labels is None else (torch.from_numpy(labels[batch]).to(device),),
        )
