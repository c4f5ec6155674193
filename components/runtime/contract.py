"""What a bundle declares of its graph, and whether a loaded graph keeps to it. Imports neither torch nor a server."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.core.bundles import MODEL_ONNX
from components.core.errors import BundleError
from components.core.noise import draw
from components.core.records import Bundle
from components.runtime.session import GraphSampler

Feeds = Mapping[str, npt.NDArray[np.generic]]  # input name -> [N, ...]
TRITON_TYPES = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "UINT8": "TYPE_UINT8"}
# ONNX Runtime's names, and the protocol's
ORT_TYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(uint8)": "UINT8"}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the graph: its name, the protocol's name of its type, and the shape of one item."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def inputs_of(bundle: Bundle) -> tuple[TensorSpec, ...]:
    """The graph's inputs as the bundle declares them: its noise, then its class index."""
    noise = tuple(TensorSpec(noise.name, "FP32", noise.shape) for noise in bundle.noise)
    return noise if bundle.condition is None else (*noise, TensorSpec(bundle.condition, "INT64", ()))


def output_of(bundle: Bundle) -> TensorSpec:
    """The image."""
    return TensorSpec(bundle.output, bundle.output_type, bundle.spec.shape)


def check_contract(bundle: Bundle, sampler: GraphSampler) -> None:
    """Raise BundleError when the graph's inputs and outputs are not those that bundle.json declares."""
    declared = {(spec.name, spec.datatype, len(spec.shape) + 1) for spec in inputs_of(bundle)}
    found = {(node.name, ORT_TYPES.get(node.type, node.type), len(node.shape)) for node in sampler.session.get_inputs()}
    if declared != found:
        raise BundleError(f"{MODEL_ONNX}: its inputs are {sorted(found)}, bundle.json declares {sorted(declared)}")
    outputs = {node.name: ORT_TYPES.get(node.type, node.type) for node in sampler.session.get_outputs()}
    if outputs.get(bundle.output) != bundle.output_type:
        raise BundleError(
            f"{MODEL_ONNX}: its outputs are {outputs}, bundle.json declares {bundle.output!r} of {bundle.output_type}"
        )
    if bundle.condition is not None and not bundle.spec.classes:
        raise BundleError(f"bundle.json: the condition {bundle.condition!r} without classes")


def probe(bundle: Bundle) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs for a full batch, always the same."""
    feeds: dict[str, npt.NDArray[np.generic]] = dict(draw(bundle.noise, range(bundle.max_batch)))
    if bundle.condition is not None:
        feeds[bundle.condition] = np.arange(bundle.max_batch, dtype=np.int64) % len(bundle.spec.classes)
    return feeds


def check_images(x_NCHW: npt.NDArray[np.generic], bundle: Bundle) -> None:
    """Raise BundleError when a full batch has another shape than declared, or values that are not finite."""
    declared = (bundle.max_batch, *bundle.spec.shape)
    if x_NCHW.shape != declared:
        raise BundleError(f"{MODEL_ONNX}: makes {list(x_NCHW.shape)}, bundle.json declares {list(declared)}")
    if not np.isfinite(x_NCHW).all():
        raise BundleError(f"{MODEL_ONNX}: makes values that are NaN or infinite")
