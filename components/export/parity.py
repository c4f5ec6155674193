"""Does the graph compute what torch computes? Compared at several batch sizes, since a specialised batch fails only later."""

from pathlib import Path

import numpy as np
import torch

from components.core.errors import ExportError
from components.core.family import Family
from components.core.record import Record
from components.core.units import levels_to_units
from components.export.graph import Graph, example_inputs
from components.export.precision import MEAN_TOLERANCE
from components.runtime.session import GraphSampler

BATCHES = (1, 2, 7, 32)
TOLERANCE = 2e-3  # in data units of width 2: a quarter of one 8-bit level
HALF_LEVEL = 0.5 / 127.5  # what rounding to levels takes
# A sampler that draws from categories compares noise with cumulative probabilities. Of 256 boundaries that differ by 1e-7, one
# value in 40,000 meets one, and all that is drawn after it may differ: about 0.2 % of images of 64 values, 2 % of 784.
FLIPPED = 0.1


class Parity(Record):
    """The largest absolute difference between torch and the graph, in data units, at each batch size; of a graph of lower
    precision, the largest mean difference of an item.

    Of a discrete sampler: that of the items that chose the same categories; `flipped` is the share of those that did not.
    """

    differences: dict[int, float]
    tolerance: float
    flipped: float = 0.0

    @property
    def worst(self) -> float:
        return max(self.differences.values())


def check_parity(family: Family, path: Path, graph: Graph, *, steps: int | None = None) -> Parity:
    """Run both on the same noise. Raises ExportError when they differ by more than is allowed at any batch size."""
    sampler = family.sampler(steps=steps).eval()
    session = GraphSampler(path, spec=family.spec, noise=family.noise_inputs(), condition=graph.condition, output=graph.output)
    differences, flipped = {}, 0
    allowed = MEAN_TOLERANCE.get(graph.precision, TOLERANCE) + (0.0 if graph.output_type == "FP32" else HALF_LEVEL)
    for batch in BATCHES:
        inputs = example_inputs(family, batch, seed=batch)
        with torch.inference_mode():
            expected = sampler(*inputs).numpy()
        made = session.run({name: value.numpy() for name, value in zip(graph.inputs, inputs, strict=True)})
        got = levels_to_units(made, family.spec.item)
        if got.shape != expected.shape:
            raise ExportError(f"{path.name}: batch {batch} gives {got.shape}, torch gives {expected.shape}")
        apart_ND = np.abs(got - expected).reshape(batch, -1)
        worst_N = (apart_ND.max if graph.precision == "fp32" else apart_ND.mean)(axis=1)
        if family.discrete:
            same_N = worst_N <= allowed
            flipped += int((~same_N).sum())
            worst_N = worst_N[same_N]
        differences[batch] = float(worst_N.max(initial=0.0))
    parity = Parity(differences=differences, tolerance=allowed, flipped=flipped / sum(BATCHES))
    if not parity.worst <= allowed:
        raise ExportError(f"{path.name}: differs from torch by {parity.worst:.2g}", allowed=f"{allowed:g} on a range of 2")
    if parity.flipped > FLIPPED:
        raise ExportError(
            f"{path.name}: {parity.flipped:.0%} of the items differ from torch's", allowed=f"{FLIPPED:.0%}, by rounding"
        )
    return parity
