"""Group normalisation in operators that ONNX Runtime has kernels for.

It has none for GroupNormalization on a CPU and runs its definition, ten operators with casts and divisions among them; with each
group as one instance, InstanceNormalization is the same arithmetic in one:

    y = scale_c (x - mean_g) / sqrt(var_g + eps) + bias_c       (Wu & He 2018, arXiv:1803.08494, eq. 1)
"""

from typing import Any

from components.export.precision import drop_unused


def groups_as_instances(graph: Any) -> None:
    """Rewrite each GroupNormalization of an onnx.GraphProto, and of its loop bodies, whose scale and bias are its weights."""
    _rewrite(graph, graph, {weight.name: weight for weight in graph.initializer})
    drop_unused(graph)  # scales and biases stand in others now


def _rewrite(graph: Any, outermost: Any, weights: dict[str, Any]) -> None:
    """One graph, and those within it. The outermost one holds the weights of all."""
    import numpy as np
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rewrite(attribute.g, outermost, weights)
        if node.op_type != "GroupNormalization" or not {*node.input[1:]} <= weights.keys():
            nodes.append(node)
            continue
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        (x, *own), (y,), groups = node.input, node.output, given["num_groups"]
        scale_C, bias_C = (numpy_helper.to_array(weights[name]) for name in own)
        constants = {
            "ones": np.ones(groups, np.float32),
            "zeros": np.zeros(groups, np.float32),
            "groups": np.array([0, groups, -1]),
            "channels": np.array([0, len(scale_C), -1]),
            "scale": scale_C[:, None],
            "bias": bias_C[:, None],
        }
        prefix = f"{y}_norm_{len(outermost.initializer)}"  # names in two loop bodies may be alike
        outermost.initializer.extend(numpy_helper.from_array(value, f"{prefix}_{name}") for name, value in constants.items())
        epsilon = given.get("epsilon", 1e-5)
        nodes += [
            helper.make_node("Reshape", [x, f"{prefix}_groups"], [f"{y}_grouped"]),
            helper.make_node(
                "InstanceNormalization", [f"{y}_grouped", f"{prefix}_ones", f"{prefix}_zeros"], [f"{y}_alike"], epsilon=epsilon
            ),
            helper.make_node("Reshape", [f"{y}_alike", f"{prefix}_channels"], [f"{y}_flat"]),
            helper.make_node("Mul", [f"{y}_flat", f"{prefix}_scale"], [f"{y}_scaled"]),
            helper.make_node("Add", [f"{y}_scaled", f"{prefix}_bias"], [f"{y}_moved"]),
            helper.make_node("Shape", [x], [f"{y}_shape"]),
            helper.make_node("Reshape", [f"{y}_moved", f"{y}_shape"], [y]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
