"""Which items of a split are taken, and items of noise: by the seed of a protocol."""

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.modality import find_modality
from components.core.protocols import ItemSplit
from components.core.records import ItemSpec


def choose(split: ItemSplit, at_most: int, *, seed: int) -> Stored:
    """Stored of a split: all of them, or a seeded choice without repeats."""
    return split.take(places(len(split), at_most, seed=seed))


def places(n: int, at_most: int, *, seed: int) -> npt.NDArray[np.int64]:
    """At most so many of n indices, without repeats, in order."""
    return np.sort(np.random.default_rng([seed, 3]).permutation(n)[:at_most]).astype(np.int64)


def noise_items(n: int, item: ItemSpec, *, seed: int) -> Stored:
    """What a sampler that learnt nothing would give: stored items [n, *stored_shape]."""
    return find_modality(item.modality).noise(n, item, np.random.default_rng([seed, 4]))
