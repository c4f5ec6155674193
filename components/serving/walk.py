"""On the way from one seed's noise to another's: what the slider of the page asks for.

Spherical interpolation (Shoemake 1985; White 2016, arXiv:1609.04468, section 2.1), since Gaussian noise of many numbers lies on
a shell that a straight line leaves. Of equal lengths it keeps the length; else the length goes linearly. Inputs that are not
Gaussian, such as the choice of a category, stay those of the first seed.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from components.core.noise import NoiseInput, draw

STRAIGHT = 1e-6  # of sin w: below it the two lie in one line

Noise = dict[str, npt.NDArray[np.float32]]  # name -> [N, ...]


def walked(inputs: Sequence[NoiseInput], seeds: Sequence[int], *, toward: int, mix: float) -> Noise:
    """The noise of each seed, moved by the share `mix` in [0, 1] towards that of the seed `toward`."""
    here = draw(inputs, seeds)
    there = draw(inputs, [toward])
    normal = {noise.name for noise in inputs if noise.distribution == "normal"}
    return {
        name: np.stack([slerp(row, there[name][0], mix) for row in rows]) if name in normal else rows
        for name, rows in here.items()
    }


def slerp(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], t: float) -> npt.NDArray[np.float32]:
    """The point from a (t = 0) to b (t = 1), exactly those at the ends."""
    if t in (0, 1):
        return b if t else a
    x, y = a.astype(np.float64), b.astype(np.float64)
    length_x, length_y = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    cosine = float(np.clip((x * y).sum() / (length_x * length_y), -1, 1))
    angle = np.arccos(cosine)
    if np.sin(angle) < STRAIGHT:
        straight: npt.NDArray[np.float64] = (1 - t) * x + t * y
        return straight.astype(np.float32)
    direction = (np.sin((1 - t) * angle) * x / length_x + np.sin(t * angle) * y / length_y) / np.sin(angle)
    point: npt.NDArray[np.float64] = ((1 - t) * length_x + t * length_y) * direction
    return point.astype(np.float32)
