"""Lower precision of products with weights. The schedule's arithmetic, norms, activations and attention stay in float32.

fp16: weights and products in halves, half the file.
int8: weights a channel and activations a tensor in eight bits, by ONNX Runtime's quantiser, with ranges taken from the sampler's
own noise (Jacob et al. 2017, arXiv:1712.05877). Weights keep within -64 to 64: x86-64 processors without VNNI add two products of
an activation a (0 to 255) and a weight w in 16 bits, and stop at 32767 where the sum is larger. 2 * 255 * 64 = 32640 is not
(docs/decisions/0008-int8.md).
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ExportError
from components.export.inspection import graphs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

    Feeds = dict[str, npt.NDArray[np.generic]]

# Lower precision is held to the mean difference of an image, in data units: what one rounding moves at an edge, more steps may
# move on. What it does to the samples as a whole is for the metrics to say (components/evaluation/agreement.py).
MEAN_TOLERANCE = {"fp16": 1 / 127.5, "int8": 8 / 127.5}
WEIGHT_MAX = 64  # of eight-bit weights, which is what ONNX Runtime's reduced range is
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def halved(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph whose products with weights are in half precision; its inputs and its output stay float32.

    (ONNX Runtime's converter gives the nodes it adds names that are not unique, and halves the schedule's constants too.)
    """
    import onnx

    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    _Halves(lowered.graph).lower(lowered.graph, depth=0)
    drop_unused(lowered.graph)
    return lowered


class _Halves:
    """The weights of a graph, which those of its loop bodies use too, and their halves, each made once."""

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self.graph = graph
        self.weights = {weight.name: weight for weight in graph.initializer}
        self.made: dict[str, str] = {}

    def lower(self, graph: "onnx.GraphProto", *, depth: int) -> None:
        """Lower the products of a graph, `depth` bodies deep, and of the bodies in it."""
        from onnx import TensorProto, helper

        found: list[Any] = []
        cast: dict[str, str] = {}
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self.lower(attribute.g, depth=depth + 1)
            if node.op_type not in PRODUCTS or node.input[1] not in self.weights:
                found.append(node)
                continue
            inputs = []
            for name in node.input:
                if name and name not in self.weights and name not in cast:
                    cast[name] = f"{name}_half_{depth}"
                    found.append(helper.make_node("Cast", [name], [cast[name]], to=TensorProto.FLOAT16))
                inputs.append(name and (self.weight(name) if name in self.weights else cast[name]))
            (made,) = node.output
            product = helper.make_node(node.op_type, inputs, [f"{made}_product"], name=node.name)
            product.attribute.extend(node.attribute)
            found += [product, helper.make_node("Cast", [f"{made}_product"], [made], to=TensorProto.FLOAT)]
        del graph.node[:]
        graph.node.extend(found)

    def weight(self, name: str) -> str:
        """The name of a weight in halves."""
        import numpy as np
        from onnx import numpy_helper

        if name not in self.made:
            self.made[name] = f"{name}_half"
            values = numpy_helper.to_array(self.weights[name]).astype(np.float16)
            self.graph.initializer.append(numpy_helper.from_array(values, self.made[name]))
        return self.made[name]


def quantised(model: "onnx.ModelProto", calibration: Sequence["Feeds"]) -> "onnx.ModelProto":
    """The same graph whose products with weights are of eight bits; `calibration` are inputs whose ranges it takes.

    Raises ExportError for one whose products stand in a loop, where the quantiser does not look.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    weights = {weight.name for weight in model.graph.initializer}
    products = [node for node in nodes(model.graph) if node.op_type in PRODUCTS]
    weighted = [node for node in products if node.input[1] in weights]
    reached = {node.name for node in model.graph.node}
    if beyond := sum(node.name not in reached for node in weighted):
        raise ExportError(
            f"precision int8: {beyond} products stand in a loop", allowed="samplers of up to four network evaluations"
        )
    with tempfile.TemporaryDirectory() as folder, _root_logger_quiet():
        path = Path(folder) / "model.onnx"
        quantize_static(
            model,
            path,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*PRODUCTS],
            nodes_to_exclude=[node.name for node in products if node.input[1] not in weights],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        lowered = onnx.load(path)
    used = {"", *(node.domain for node in nodes(lowered.graph))}
    named = [entry for entry in lowered.opset_import if entry.domain in used]  # the quantiser names domains that it may need
    del lowered.opset_import[:]
    lowered.opset_import.extend(named)
    return lowered


class _Reader:
    """Inputs one after another, as the calibrator asks for them."""

    def __init__(self, calibration: Iterable["Feeds"]) -> None:
        self._left = iter(calibration)

    def get_next(self) -> "Feeds | None":
        return next(self._left, None)

    def __iter__(self) -> Iterator["Feeds"]:
        return self._left


@contextmanager
def _root_logger_quiet() -> Iterator[None]:
    """The quantiser speaks by the root logger, which would get a handler of its own where it has none."""
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def nodes(graph: "onnx.GraphProto") -> Iterator[Any]:
    """All nodes, those of loop bodies included."""
    return (node for inner in graphs(graph) for node in inner.node)


def drop_unused(graph: "onnx.GraphProto") -> None:
    """Leave out the weights that no node takes."""
    used = {name for node in nodes(graph) for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
