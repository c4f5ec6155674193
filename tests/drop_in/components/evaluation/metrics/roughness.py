"""Roughness: how much neighbouring values differ."""

import numpy as np

from components.core.metrics import Gate, Words

WORDS = (Words("roughness", "Roughness", "mean step between neighbours", better="lower"),)
GATES = (Gate("roughness_max", "roughness", "max", default=1.0, takes="positive"),)


def compute(seen):
    steps_N = np.abs(np.diff(seen.items.astype(np.float64), axis=1)).reshape(len(seen.items), -1).mean(axis=1)
    return {"roughness": seen.boot.mean(steps_N, stream="generated")}
