"""Graininess: how much neighbouring values differ."""

import numpy as np

from components.core.metrics import Gate, Words

WORDS = (Words("graininess", "Graininess", "mean step between neighbours", better="lower"),)
GATES = (Gate("graininess_max", "graininess", "max", default=1.0, takes="positive"),)


def compute(seen):
    steps_N = np.abs(np.diff(seen.items.astype(np.float64), axis=1)).reshape(len(seen.items), -1).mean(axis=1)
    return {"graininess": seen.boot.mean(steps_N, stream="generated")}
