"""What a graph's file says before anything runs it: its size, its operators, and that all of its weights stand in it.

ONNX Runtime opens external data that it is pointed at, whatever that file is (hard links included), so a graph that names any is
refused, and so is one with operators beyond the allow-list. Nothing here executes the graph.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.export.operators import ALLOWED, STANDARD_DOMAINS
from components.export.refusal import Refused

if TYPE_CHECKING:
    import onnx

FILE_BYTES_MAX = 2 << 30  # protobuf's own limit
NODES_MAX = 200_000
DEPTH_MAX = 8  # of graphs within graphs
OPSETS = range(17, 25)


def inspect(path: Path) -> str:
    """One line about the graph that was found. Raises Refused with the check that says no."""
    import onnx

    size_bytes = path.stat().st_size
    if not 0 < size_bytes <= FILE_BYTES_MAX:
        raise Refused("size", f"{size_bytes} bytes; allowed: 1 to {FILE_BYTES_MAX}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own, of whichever implementation it runs on
        raise Refused("format", "not an ONNX graph: its bytes cannot be parsed") from error
    _check_model(model)
    nodes, weights_bytes = 0, 0
    for graph in graphs(model.graph):
        if graph.sparse_initializer:
            raise Refused("operators", "sparse weights; allowed: plain ones")
        nodes += len(graph.node)
        if nodes > NODES_MAX:
            raise Refused("size", f"more than {NODES_MAX} nodes")
        for node in graph.node:
            _check_node(node)
        for tensor in tensors(graph):
            weights_bytes += _check_tensor(tensor)
    if nodes == 0:
        raise Refused("format", "a graph without nodes")
    return f"{nodes} nodes, {weights_bytes / 1e6:.1f} MB of weights in {size_bytes / 1e6:.1f} MB"


def graphs(graph: "onnx.GraphProto", depth: int = 0) -> "Iterator[onnx.GraphProto]":
    """The graph and those within it: bodies of loops, branches of conditions."""
    if depth > DEPTH_MAX:
        raise Refused("size", f"graphs within graphs deeper than {DEPTH_MAX}")
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from graphs(inner, depth + 1)


def tensors(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    """Every tensor that stands in this graph itself: its initializers and its nodes' attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_model(model: "onnx.ModelProto") -> None:
    if model.functions or model.training_info:
        raise Refused("operators", "it brings functions or training graphs of its own; allowed: one plain graph")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if foreign := sorted(set(versions) - STANDARD_DOMAINS):
        raise Refused("operators", f"operators of the domain {foreign[0][:80]!r}; allowed: the standard's alone")
    if not versions or any(version not in OPSETS for version in versions.values()):
        raise Refused("operators", f"opset {sorted(versions.values())}; allowed: {OPSETS.start} to {OPSETS.stop - 1}")


def _check_node(node: "onnx.NodeProto") -> None:
    if node.domain not in STANDARD_DOMAINS:
        raise Refused("operators", f"{node.op_type[:80]!r} of the domain {node.domain[:80]!r}; allowed: the standard's alone")
    if node.op_type not in ALLOWED:
        raise Refused("operators", f"{node.op_type[:80]!r}; components/export/operators.py lists what is allowed")
    for attribute in node.attribute:
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors or attribute.type_protos or attribute.HasField("tp"):
            raise Refused("operators", f"{node.op_type} with a sparse tensor or a type as attribute; allowed: plain ones")
        if attribute.ref_attr_name:
            raise Refused("operators", f"{node.op_type} refers to an attribute of a function; allowed: plain ones")


def _check_tensor(tensor: "onnx.TensorProto") -> int:
    """The bytes it holds. Raises Refused unless they stand in this file, fill its shape and are numbers."""
    import onnx
    from onnx import numpy_helper

    name = tensor.name[:80]
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise Refused("external-data", f"the weights {name!r} stand in another file; allowed: one file that holds everything")
    if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        raise Refused("operators", f"the tensor {name!r} holds no numbers")
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:
        raise Refused("format", f"the weights {name!r} do not fill their shape {list(tensor.dims)[:8]}") from error
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise Refused("finite", f"the weights {name!r} hold NaN")
    return int(array.nbytes)
