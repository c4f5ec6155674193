"""The graph between a text encoder and a sampler where no server of ours stands between them.

    condition = e  where the tokens say anything, else 0;  of a sampler that takes what is unwanted: the two, stacked

It does what components/runtime/prompts.py does around the encoder. N items, L tokens, D features.
"""

from typing import Any

from components.core.records import EmbeddingCondition

OPSET, IR_VERSION = 21, 10


def joint_graph(condition: EmbeddingCondition, *, padding: int, each_token: bool) -> bytes:
    """tokens [N, L] and embedding [N, L, D] (with negative_tokens and negative_embedding) to condition [N, *shape], as ONNX.

    Tokens that are all `padding` say nothing; nothing in particular is then asked for, as zeros do. `each_token`: the rows of
    padding behind a text are zeros, too, as an encoder of any length has none there.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    sides = ("", "negative_") if condition.negative else ("",)
    length, shape = condition.length, list(condition.given_shape)
    inputs: list[Any] = []
    nodes: list[Any] = []
    for side in sides:
        inputs.append(helper.make_tensor_value_info(f"{side}tokens", TensorProto.INT64, ["n", length]))
        inputs.append(helper.make_tensor_value_info(f"{side}embedding", TensorProto.FLOAT, ["n", *shape]))
        nodes += [
            helper.make_node("Equal", [f"{side}tokens", "padding"], [f"{side}padded"]),
            helper.make_node("Cast", [f"{side}padded"], [f"{side}counted"], to=TensorProto.INT64),
            helper.make_node("ReduceMin", [f"{side}counted", "last"], [f"{side}least"], keepdims=1),
            helper.make_node("Cast", [f"{side}least"], [f"{side}mute"], to=TensorProto.BOOL),
            helper.make_node("Or" if each_token else "And", [f"{side}padded", f"{side}mute"], [f"{side}silent"]),
            helper.make_node("Unsqueeze", [f"{side}silent", "last_of_three"], [f"{side}silences"]),
            helper.make_node("Where", [f"{side}silences", "zero", f"{side}embedding"], [f"{side}said"]),
        ]
    if condition.negative:
        nodes += [helper.make_node("Unsqueeze", [f"{side}said", "last"], [f"{side}part"]) for side in sides]
        nodes.append(helper.make_node("Concat", [f"{side}part" for side in sides], ["condition"], axis=1))
    else:
        nodes.append(helper.make_node("Identity", ["said"], ["condition"]))
    numbers = {
        "padding": np.int64(padding),
        "zero": np.float32(0),
        "last": np.array([1], np.int64),
        "last_of_three": np.array([2], np.int64),
    }
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    output = helper.make_tensor_value_info("condition", TensorProto.FLOAT, ["n", *condition.shape])
    graph = helper.make_graph(nodes, "condition", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    made: bytes = model.SerializeToString()
    return made
