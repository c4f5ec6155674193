"""Contrast and roughness: what tells noise, blur and faint samples apart, and what feature networks have learnt to forgive.

    s_i^2 = the variance of the values within item i,   g_i^2 = the mean square of the differences of neighbouring values in it
    contrast = sqrt(mean s^2 / mean s^2 of real items),   roughness = sqrt((sum g^2 / sum s^2) / (the same of real items))

Both are 1 for the data. A factor of the grey levels moves contrast alone; noise of variance e^2 adds e^2 to s^2 and 2 e^2 to g^2,
and blur takes more of g^2 than of s^2. g^2 / s^2 is von Neumann's ratio (1941, 'Distribution of the ratio of the mean square
successive difference to the variance'); it is 2 for white noise.

roughness_lost = |log roughness| less the champion's: how much farther from the data's it is, smoother or noisier. It is gated, as
no network that could be tuned on stands between it and the items; a better distance does not pay for blur.

N items, C channels, R resamples.
"""

import numpy as np

from components.core.arrays import Stored
from components.core.metrics import Gate, Words
from components.core.records import ItemSpec, Metric
from components.evaluation.bootstrap import Floats
from components.evaluation.evaluated import Evaluated, once
from components.evaluation.yardstick import Yardstick

WORDS = (
    Words(
        "contrast", "Contrast", "deviation of the values within a sample, over that within real items; 1 is the data", order=45
    ),
    Words(
        "roughness",
        "Roughness",
        "differences of neighbouring values over that deviation, over real items'; 1 is the data",
        order=46,
    ),
    Words(
        "roughness_lost",
        "Roughness lost",
        "how much farther from the data's it is than the champion's, as a logarithm",
        better="lower",
        order=47,
    ),
)
GATES = (Gate("roughness_lost_max", "roughness_lost", "max", default=0.2, takes="positive", relative=True, optional=True),)
LEAST = 1e-3  # of a roughness, before its logarithm is taken
BLOCK = 256  # items whose values are taken apart together


@once
def of_real(yardstick: Yardstick) -> Floats:
    """s^2 and g^2 of each of the reference items: [M, 2]."""
    return texture(yardstick.real.items, yardstick.dataset.item)


@once
def over_real(seen: Evaluated) -> dict[str, Floats]:
    """Both, and in every resample: [1 + R]; none of tokens, and where the real items are all flat."""
    item, boot = seen.yardstick.dataset.item, seen.boot
    if item.storage.dtype == "int64":
        return {}
    real_M2, ours_N2 = of_real(seen.yardstick), texture(seen.items, item)
    if not real_M2.mean(axis=0).all():
        return {}
    real_R2, ours_R2 = (
        np.vstack([each.mean(axis=0)[None], boot.means(each, stream=stream)])
        for each, stream in ((real_M2, "reference"), (ours_N2, "generated"))
    )
    tiny = np.finfo(np.float64).tiny
    over_R2 = ours_R2 / np.maximum(real_R2, tiny)
    draws = {"contrast": over_R2[:, 0], "roughness": over_R2[:, 1] / np.maximum(over_R2[:, 0], tiny)}
    return {name: np.sqrt(draws_R) for name, draws_R in draws.items()}


def compute(seen: Evaluated) -> dict[str, Metric]:
    """Both; and what was lost, where there is a champion."""
    found, boot, n = over_real(seen), seen.boot, len(seen.items)
    metrics = {name: boot.metric(float(each_R[0]), each_R[1:], n=n, least=0) for name, each_R in found.items()}
    if not found or seen.champion is None:
        return metrics
    ours_R, theirs_R = (np.abs(np.log(np.maximum(each["roughness"], LEAST))) for each in (found, over_real(seen.champion)))
    lost_R = ours_R - theirs_R
    return metrics | {"roughness_lost": boot.metric(float(lost_R[0]), lost_R[1:], n=n)}


def texture(items: Stored, item: ItemSpec) -> Floats:
    """s^2 and g^2 of each item, means over its channels: [N, 2]."""
    axes = [item.storage.axes.index(axis) + 1 for axis in range(len(item.shape))]
    return np.concatenate([_texture(items[at : at + BLOCK].transpose(0, *axes)) for at in range(0, len(items), BLOCK)])


def _texture(stored_NC: Stored) -> Floats:
    """Of [N, C, *axes along which values have neighbours]."""
    x_NC = stored_NC.astype(np.float64)
    along = tuple(range(2, x_NC.ndim))
    squares = [np.square(np.diff(x_NC, axis=axis)).mean(axis=along).mean(axis=1) for axis in along if x_NC.shape[axis] > 1]
    apart_N: Floats = np.mean(squares, axis=0) if squares else np.zeros(len(x_NC))
    return np.stack([x_NC.var(axis=along).mean(axis=1), apart_N], axis=1)
