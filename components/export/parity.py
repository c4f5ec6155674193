"""Does the graph compute what torch computes? Compared at several batch sizes, since a specialised batch fails only later."""

from pathlib import Path

import numpy as np
import torch

from components.core.errors import ExportError
from components.core.family import Family
from components.core.record import Record
from components.core.session import GraphSampler
from components.export.graph import Graph, example_inputs

BATCHES = (1, 2, 7, 32)
TOLERANCE = 2e-3  # in data units of width 2: a quarter of one 8-bit level


class Parity(Record):
    """The largest absolute difference between torch and the graph, in data units, at each batch size."""

    differences: dict[int, float]
    tolerance: float

    @property
    def worst(self) -> float:
        return max(self.differences.values())


def check_parity(family: Family, path: Path, graph: Graph, *, steps: int | None = None) -> Parity:
    """Run both on the same noise. Raises ExportError when they differ by more than TOLERANCE at any batch size."""
    sampler = family.sampler(steps=steps).eval()
    session = GraphSampler(path, noise=family.noise_inputs(), condition=graph.condition, output=graph.output)
    differences = {}
    for batch in BATCHES:
        inputs = example_inputs(family, batch, seed=batch)
        with torch.inference_mode():
            expected_NCHW = sampler(*inputs).numpy()
        got_NCHW = session.run({name: value.numpy() for name, value in zip(graph.inputs, inputs, strict=True)})
        if got_NCHW.shape != expected_NCHW.shape:
            raise ExportError(f"{path.name}: batch {batch} gives {got_NCHW.shape}, torch gives {expected_NCHW.shape}")
        differences[batch] = float(np.abs(got_NCHW - expected_NCHW).max())
    parity = Parity(differences=differences, tolerance=TOLERANCE)
    if not parity.worst <= TOLERANCE:
        raise ExportError(f"{path.name}: differs from torch by {parity.worst:.2g}", allowed=f"{TOLERANCE:g} on a range of 2")
    return parity
