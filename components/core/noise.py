"""Noise is always an input of a sampler. It is drawn here, per item, from a seed, independently of batching.

The same seed gives the same noise in evaluation, in export and in the server: item k of input number i draws from
Philox4x64 (Salmon et al. 2011, 'Parallel random numbers: as easy as 1, 2, 3') keyed by (seed_k, i).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from components.core.record import Record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SEED_LIMIT = 2**63  # seeds are 0 <= seed < SEED_LIMIT


class NoiseInput(Record):
    """One noise input of a sampler: its name in the graph, the shape of one item, and its distribution."""

    name: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    distribution: Literal["normal", "uniform"] = "normal"


def draw(inputs: Sequence[NoiseInput], seeds: Sequence[int]) -> "dict[str, npt.NDArray[np.float32]]":
    """Noise for `len(seeds)` items: name -> float32 [N, *shape]. Row k depends on seeds[k] alone.

    >>> z = NoiseInput(name="z", shape=(2,))
    >>> draw([z], [7, 8])["z"].shape
    (2, 2)
    >>> bool((draw([z], [7, 8])["z"][1] == draw([z], [8])["z"][0]).all())
    True
    """
    import numpy as np

    drawn = {}
    for index, noise in enumerate(inputs):
        out = np.empty((len(seeds), math.prod(noise.shape)), np.float32)
        for row, seed in zip(out, seeds, strict=True):
            generator = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
            if noise.distribution == "normal":
                generator.standard_normal(dtype=np.float32, out=row)
            else:
                generator.random(dtype=np.float32, out=row)
        drawn[noise.name] = out.reshape(len(seeds), *noise.shape)
    return drawn
