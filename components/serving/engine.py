"""A verified bundle, loaded and warm: noise in, items out. Nothing here knows HTTP.

N items. The same item gives the same bytes whatever it is batched with: at load, every batch
size ("bucket") is compared bit for bit with the full batch, and only those that agree are used.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.bundles import MODEL_ONNX, TEXT_ENCODER, address_of, read_bundle, text_encoder_of
from components.core.errors import BundleError, ServingError
from components.core.records import Bundle, EmbeddingCondition
from components.runtime.contract import Feeds, TensorSpec, check_contract, check_graph, check_items, inputs_of, output_of, probe
from components.runtime.prompts import Prompts
from components.runtime.reference import check_reference
from components.runtime.session import GraphSampler, opened
from components.runtime.text_encoder import prompts_in


@dataclass(frozen=True)
class Engine:
    """A loaded bundle. `run` may be called from `lanes` threads at once."""

    bundle: Bundle
    sha256: str
    sampler: GraphSampler
    buckets: tuple[int, ...]  # ascending sizes of batch that give the same bytes
    graphs: Mapping[str, Any] = field(default_factory=dict)  # the sessions of those beside the sampler
    prompts: Prompts | None = None  # where one of them is a text encoder

    @classmethod
    def load(cls, folder: Path, *, threads: int = 0, device: str = "cpu") -> "Engine":
        """Verify the bundle in `folder`, load its graph, check it against its contract and its reference, and warm it up.

        `threads` 0 means every processor this process may use. Raises BundleError, or ServingError when there is no such device.
        """
        bundle = read_bundle(folder)
        sampler = GraphSampler.of(folder, bundle, device=device, threads=threads)
        if device == "cuda" and "CUDAExecutionProvider" not in sampler.session.get_providers():
            raise ServingError("device cuda: ONNX Runtime finds no CUDA device it can use", do="serve with device cpu")
        check_contract(bundle, sampler)
        beside = {graph.name: opened(folder / graph.file, threads=1, device=device) for graph in bundle.graphs}
        for graph in bundle.graphs:
            check_graph(graph, beside[graph.name])
        asked, prompts = bundle.spec.condition, None
        if text_encoder_of(bundle) and isinstance(asked, EmbeddingCondition):
            prompts = prompts_in(folder, asked, beside[TEXT_ENCODER])
        engine = cls(bundle, address_of(folder), sampler, stable_buckets(bundle, sampler), beside, prompts)
        check_reference(bundle, sampler)
        sampler.enable_parallel_session([size for size in engine.buckets if size < sampler.lanes])
        return engine

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return inputs_of(self.bundle)

    @cached_property
    def output(self) -> TensorSpec:
        return output_of(self.bundle)

    @property
    def input_bytes(self) -> int:
        """About the size of one item's noise and condition."""
        return sum(4 * math.prod(each.shape) for each in self.inputs)

    @property
    def max_batch(self) -> int:
        return self.buckets[-1]

    @property
    def lanes(self) -> int:
        """How many runs go on side by side at best."""
        return self.sampler.lanes

    def run(self, feeds: Feeds, *, alone: bool = False) -> npt.NDArray[np.generic]:
        """x [N, *shape] as the graph makes it, in data units or in the levels that are stored, for at most `max_batch` items.
        `alone`: fewer items than `lanes`, and nothing else runs.

        Raises BundleError when the graph fails.
        """
        n = len(next(iter(feeds.values())))
        size = next(bucket for bucket in self.buckets if bucket >= n)
        padded = {name: np.concatenate([rows, np.repeat(rows[-1:], size - n, axis=0)]) for name, rows in feeds.items()}
        x = self.sampler.run(padded if size > n else dict(feeds), alone=alone and size < self.lanes)
        if x.shape != (size, *self.bundle.spec.shape):
            raise BundleError(f"{MODEL_ONNX}: made {list(x.shape)} of {size} items")
        return x[:n]


def stable_buckets(bundle: Bundle, sampler: GraphSampler) -> tuple[int, ...]:
    """The batch sizes whose items are bit for bit those of the full batch; it alone, or (1,), when the device has no others.

    Warms every size up. Raises BundleError when the graph makes another shape than declared, or values that are not finite.
    """
    full = bundle.max_batch
    feeds = probe(bundle)
    x = sampler.run(feeds)
    check_items(x, bundle)
    turned = sampler.run({name: np.roll(rows, 1, axis=0) for name, rows in feeds.items()})
    if not np.array_equal(turned, np.roll(x, 1, axis=0)):
        return (1,)  # an item's place in the batch shows in its bytes: one at a time is all that can be promised
    sizes = [2**k for k in range((full - 1).bit_length())]
    # The last items of the full batch become the first of a small one: neither size nor place may matter.
    same = [size for size in sizes if np.array_equal(sampler.run(_last(feeds, size)), x[-size:])]
    return (*same, full)


def _last(feeds: Feeds, size: int) -> dict[str, npt.NDArray[np.generic]]:
    return {name: rows[-size:] for name, rows in feeds.items()}
