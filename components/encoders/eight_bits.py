"""A text encoder's graph with products of eight bits.

Each token's row has a scale of its own, as each column of the weights has (Dettmers et al. 2022, arXiv:2208.07339, section 3):

    x W  ~  s_x (q_x q_W) s_W        q_x = round(x / s_x), s_x = max|x| / 127 over a row        q_W likewise, at most 63

The quantisers of ONNX Runtime take one scale for a whole tensor: what a text becomes would then depend on how far it is filled
up, and on what is run beside it. Weights of seven bits cannot saturate the 16 bits in which processors without VNNI add two
products (2 x 255 x 63 < 2^15): the integers, and so the embeddings nearly, are the same on all.

A table of many rows, such as the embeddings of tokens, is kept in eight bits too, each row with its scale.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

WEIGHT_MAX, ROW_MAX, ZERO = 63, 127, 128
TABLE_ROWS = 1024  # a smaller table is left as it is


def lowered(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph with products of eight bits."""
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    constants = {
        "eight_bits_most": np.float32(ROW_MAX),
        "eight_bits_least": np.float32(1e-12),
        "eight_bits_zero": np.uint8(ZERO),
        "eight_bits_shift": np.float32(ZERO),
        "eight_bits_last": np.array([-1], np.int64),
    }
    made: dict[str, Any] = {}
    found = []
    for node in graph.node:
        values = next((weights[name] for name in node.input if name in weights), None)
        if node.op_type == "MatMul" and node.input[1] in weights and values is not None and values.ndim == 2:
            found += _product(node, values, made)
        elif node.op_type == "Gather" and node.input[0] in weights and values is not None and len(values) >= TABLE_ROWS:
            found += _lookup(node, values, made)
        else:
            found.append(node)
    del graph.node[:]
    graph.node.extend(found)
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in (constants | made).items())
    del graph.value_info[:]
    return model


def _product(node: "onnx.NodeProto", values_KM: "npt.NDArray[Any]", made: dict[str, Any]) -> list["onnx.NodeProto"]:
    from onnx import TensorProto, helper

    x, name, out = node.input[0], node.input[1], node.output[0]
    if f"{name}_q" not in made:
        made[f"{name}_q"], made[f"{name}_s"] = _rounded(values_KM, axis=0)
    return [
        helper.make_node("Abs", [x], [f"{out}_abs"]),
        helper.make_node("ReduceMax", [f"{out}_abs", "eight_bits_last"], [f"{out}_top"], keepdims=1),
        helper.make_node("Div", [f"{out}_top", "eight_bits_most"], [f"{out}_share"]),
        helper.make_node("Max", [f"{out}_share", "eight_bits_least"], [f"{out}_s"]),
        helper.make_node("Div", [x, f"{out}_s"], [f"{out}_scaled"]),
        helper.make_node("Round", [f"{out}_scaled"], [f"{out}_whole"]),
        helper.make_node("Add", [f"{out}_whole", "eight_bits_shift"], [f"{out}_shifted"]),
        helper.make_node("Cast", [f"{out}_shifted"], [f"{out}_q"], to=TensorProto.UINT8),
        helper.make_node("MatMulInteger", [f"{out}_q", f"{name}_q", "eight_bits_zero"], [f"{out}_sum"]),
        helper.make_node("Cast", [f"{out}_sum"], [f"{out}_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}_float", f"{out}_s"], [f"{out}_rows"]),
        helper.make_node("Mul", [f"{out}_rows", f"{name}_s"], [out]),
    ]


def _lookup(node: "onnx.NodeProto", values_VD: "npt.NDArray[Any]", made: dict[str, Any]) -> list["onnx.NodeProto"]:
    from onnx import TensorProto, helper

    name, tokens, out = node.input[0], node.input[1], node.output[0]
    if f"{name}_q" not in made:
        made[f"{name}_q"], made[f"{name}_s"] = _rounded(values_VD, axis=1)
    return [
        helper.make_node("Gather", [f"{name}_q", tokens], [f"{out}_q"]),
        helper.make_node("Gather", [f"{name}_s", tokens], [f"{out}_s"]),
        helper.make_node("Cast", [f"{out}_q"], [f"{out}_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}_float", f"{out}_s"], [out]),
    ]


def _rounded(values: "npt.NDArray[Any]", *, axis: int) -> tuple["npt.NDArray[np.int8]", "npt.NDArray[np.float32]"]:
    """Whole numbers of at most seven bits with their scales along the other axis; of rows (axis 1) of eight."""
    import numpy as np

    most = WEIGHT_MAX if axis == 0 else ROW_MAX
    scale = np.maximum(np.abs(values).max(axis=axis, keepdims=True) / most, 1e-12).astype(np.float32)
    return np.round(values / scale).astype(np.int8), scale[0] if axis == 0 else scale
