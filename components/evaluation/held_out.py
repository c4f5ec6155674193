"""Held-out items as a model sees them, for metrics that only the model itself can tell.

B batch.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from components.core.family import to_data_units
from components.core.randomness import noise_from
from components.evaluation.evaluated import Evaluated

ITEMS_MAX = 1000
BATCH = 100


def held_out_batches(seen: Evaluated) -> Iterator[tuple[Tensor, tuple[Tensor, ...], torch.Generator]]:
    """x [B, ...], what each is asked for by where the model has a condition, and the noise of this batch, on its device: at most
    ITEMS_MAX items of the reference split, the first of an order drawn from the protocol's seed."""
    assert seen.model is not None, "a metric of the model asks only where there is one"
    seen.model.eval().to(seen.device)
    split, condition = seen.yardstick.reference, seen.model.spec.condition
    chosen = np.sort(np.random.default_rng([seen.boot.seed, 3]).permutation(len(split))[:ITEMS_MAX])
    for at in range(0, len(chosen), BATCH):
        batch = chosen[at : at + BATCH]
        asked = () if condition is None else (torch.from_numpy(condition.of_items(split, batch)).to(seen.device),)
        x = to_data_units(split.take(batch), seen.model.spec.item).to(seen.device)
        yield x, asked, noise_from(at, seed=seen.boot.seed, device=seen.device)
