"""What a bundle declares of its graph, and whether a loaded graph keeps to it. Imports neither torch nor a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.bundles import MODEL_ONNX
from components.core.errors import BundleError
from components.core.noise import draw
from components.core.records import Bundle, GraphFile
from components.runtime.session import GraphSampler

Feeds = Mapping[str, npt.NDArray[np.generic]]  # input name -> [N, ...]
TRITON_TYPES = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "UINT8": "TYPE_UINT8", "BYTES": "TYPE_STRING"}
# ONNX Runtime's names, and the protocol's
ORT_TYPES = {
    "tensor(float)": "FP32",
    "tensor(float16)": "FP16",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(uint8)": "UINT8",
    "tensor(bool)": "BOOL",
}
NUMPY_TYPES = {"FP32": "f4", "FP16": "f2", "INT64": "i8", "INT32": "i4", "UINT8": "u1", "BOOL": "?"}
TRIED = 2  # items that a graph beside the sampler is tried on


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the graph: its name, the protocol's name of its type, and the shape of one item."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def inputs_of(bundle: Bundle) -> tuple[TensorSpec, ...]:
    """The graph's inputs as the bundle declares them: its noise, then its condition."""
    noise = tuple(TensorSpec(noise.name, "FP32", noise.shape) for noise in bundle.noise)
    asked = bundle.spec.condition
    if bundle.condition is None:
        return noise
    return (*noise, TensorSpec(bundle.condition, asked.datatype if asked else "INT64", asked.shape if asked else ()))


def output_of(bundle: Bundle) -> TensorSpec:
    """The items."""
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
    if (bundle.condition is None) != (bundle.spec.condition is None):
        raise BundleError(f"bundle.json: the input {bundle.condition!r} for the condition {bundle.spec.condition!r}")


def probe(bundle: Bundle) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs for a full batch, always the same."""
    feeds: dict[str, npt.NDArray[np.generic]] = dict(draw(bundle.noise, range(bundle.max_batch)))
    if bundle.condition is not None and bundle.spec.condition is not None:
        feeds[bundle.condition] = bundle.spec.condition.examples(bundle.max_batch)
    return feeds


def check_items(x: npt.NDArray[np.generic], bundle: Bundle) -> None:
    """Raise BundleError when a full batch has another shape than declared, or values that are not finite."""
    declared = (bundle.max_batch, *bundle.spec.shape)
    if x.shape != declared:
        raise BundleError(f"{MODEL_ONNX}: makes {list(x.shape)}, bundle.json declares {list(declared)}")
    if not np.isfinite(x).all():
        raise BundleError(f"{MODEL_ONNX}: makes values that are NaN or infinite")


def check_graph(graph: GraphFile, session: Any) -> None:
    """Raise BundleError when a graph beside the sampler does not take and make what bundle.json declares, tried on two items."""
    for ports, nodes in ((graph.inputs, session.get_inputs()), (graph.outputs, session.get_outputs())):
        declared = sorted((port.name, port.datatype, len(port.shape) + 1) for port in ports)
        found = sorted((node.name, ORT_TYPES.get(node.type, node.type), len(node.shape)) for node in nodes)
        if found != declared:
            raise BundleError(f"{graph.file}: has {found}, bundle.json declares {declared}")
    feeds = {port.name: np.zeros((TRIED, *port.shape), NUMPY_TYPES[port.datatype]) for port in graph.inputs}
    try:
        made = session.run([port.name for port in graph.outputs], feeds)
    except Exception as error:
        raise BundleError(f"{graph.file}: ONNX Runtime cannot run it: {str(error).splitlines()[0]}") from error
    for port, values in zip(graph.outputs, made, strict=True):
        declared_shape = (TRIED, *port.shape)
        if values.shape != declared_shape or (values.dtype.kind == "f" and not np.isfinite(values).all()):
            raise BundleError(f"{graph.file}: {port.name!r} is {list(values.shape)}", allowed=f"{list(declared_shape)}, finite")
