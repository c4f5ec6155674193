"""A graph of lower precision: its products in halves or eight bits, everything else as it was, the images nearly so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from specs import image_data

from components.core.errors import ExportError
from components.export.graph import Graph, calibration_of, export_graph
from components.export.inspection import inspect
from components.export.parity import BATCHES, TOLERANCE, check_parity
from components.export.precision import MEAN_TOLERANCE, PRODUCTS, WEIGHT_MAX, halved, nodes, quantised
from components.families import cards, find

NAMES = ("gan/sngan", "vae/gaussian", "flow/realnvp")  # without loops
LOOPED = ("ddpm", "latent", "cascade")
SLOW = pytest.mark.slow
EVERY = [
    *(pytest.param(name, id=name) for name in NAMES),
    *(
        pytest.param(name, id=name, marks=SLOW)
        for name in (
            "diffusion/ect",
            "gan/style",
            "gan/r3gan",
            "autoencoder/plain",
            "flow/glow",
        )
    ),
    *(pytest.param(name, id=name, marks=pytest.mark.nightly) for name in ("diffusion/latent-ect", "gan/dcgan")),
]


@dataclass(frozen=True)
class Lowered:
    family: Any
    path: Path
    graph: Graph
    whole: Path  # the graph of full precision


@pytest.fixture
def lowered(export: Callable[..., Any], tmp_path: Path) -> Callable[[str, str], Lowered]:
    """A graph that the other tests export, too, in another precision."""

    def lower(name: str, precision: str) -> Lowered:
        conditional = "class" in cards()[name.split("/", maxsplit=1)[0], name.split("/")[1]][0].conditioning
        whole = export(name, conditional)
        model = onnx.load(whole.path)
        made = halved(model) if precision == "fp16" else quantised(model, calibration_of(whole.family, whole.graph.inputs))
        onnx.save(made, tmp_path / "model.onnx")
        graph = whole.graph.model_copy(update={"precision": precision})
        return Lowered(whole.family, tmp_path / "model.onnx", graph, whole.path)

    return lower


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_images_are_nearly_torchs_at_every_batch_size(lowered: Any, name: str, precision: str) -> None:
    made = lowered(name, precision)
    parity = check_parity(made.family, made.path, made.graph)
    assert tuple(parity.differences) == BATCHES
    assert parity.tolerance == MEAN_TOLERANCE[precision]
    assert 0 < parity.worst < MEAN_TOLERANCE[precision]
    assert "nodes" in inspect(made.path), "admission knows all of its operators"


def held(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The weights of a graph, none of which stand in its loop bodies."""
    assert not [body for body in bodies(graph) if body.initializer]
    return {weight.name: weight for weight in graph.initializer}


def bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
                yield from bodies(attribute.g)


@pytest.mark.parametrize("name", [pytest.param("diffusion/edm", marks=SLOW), *NAMES])
def test_products_with_weights_are_halves_and_nothing_else_is(lowered: Any, name: str) -> None:
    """Every product with a weight takes and makes halves, by casts; no other node sees one, in the graph or in its loop."""
    found = lowered(name, "fp16")
    model = onnx.load(found.path)
    weights = held(model.graph)
    halves = {name for name, weight in weights.items() if weight.data_type == TensorProto.FLOAT16}
    inner = [model.graph, *bodies(model.graph)]
    products = [node for node in nodes(model.graph) if node.op_type in PRODUCTS and node.input[1] in weights]
    whole = onnx.load(found.whole)
    whole_weights = held(whole.graph)  # a code is the product of its noise and of what the component picks: of no weight
    weighted = [node for node in nodes(whole.graph) if node.op_type in PRODUCTS and node.input[1] in whole_weights]
    assert len(products) == len(weighted) > 0
    for each in inner:
        to_half = {node.output[0] for node in each.node if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16}
        taken = [name for node in each.node if node in products for name in node.input if name]
        assert {*taken} <= halves | to_half
        from_half = {node.input[0] for node in each.node if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT}
        made = {node.output[0] for node in each.node if node in products}
        assert made <= from_half
        rest = {name for node in each.node if node not in products and node.op_type != "Cast" for name in node.input}
        assert not rest & (halves | to_half | made)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.slow
def test_attention_stays_in_float32(make_family: Any, tmp_path: Path) -> None:
    """Its products have no weights."""
    family = find("diffusion", "edm").build(
        {"width": 16, "steps": 1, "attention": True}, image_data(channels=1, height=8, width=8)
    )
    graph = export_graph(family.eval(), tmp_path / "model.onnx")
    whole = onnx.load(tmp_path / "model.onnx")
    kept = []
    for made in (whole, halved(whole), quantised(whole, calibration_of(family, graph.inputs))):
        weights = {weight.name for weight in made.graph.initializer}
        weights |= {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
        kept.append(len([node for node in nodes(made.graph) if node.op_type == "MatMul" and node.input[1] not in weights]))
    assert kept[0] == kept[1] == kept[2] > 0


@pytest.mark.parametrize("name", EVERY)
def test_eight_bit_graphs_hold_weights_that_saturate_nowhere(lowered: Any, name: str) -> None:
    """Every product's weight comes of INT8 numbers, those of a channel with one scale, and on no processor do its sums stop."""
    made = lowered(name, "int8")
    graph, whole = onnx.load(made.path).graph, onnx.load(made.whole).graph
    weights = held(graph)
    makers = {node.output[0]: node for node in graph.node}
    weighted = {node.name for node in whole.node if node.op_type in PRODUCTS and node.input[1] in held(whole)}
    products = [node for node in graph.node if node.op_type in PRODUCTS and node.name in weighted]
    assert len(products) == len(weighted) > 0
    found = []
    for node in products:
        maker = makers[node.input[1]]
        assert maker.op_type == "DequantizeLinear"
        assert weights[maker.input[0]].data_type == TensorProto.INT8
        assert makers[node.input[0]].op_type == "DequantizeLinear"
        scales = numpy_helper.to_array(weights[maker.input[1]])
        axis = next((each.i for each in maker.attribute if each.name == "axis"), 0)
        found.append(np.moveaxis(numpy_helper.to_array(weights[maker.input[0]]), axis, 0).reshape(len(scales), -1))
    assert max(np.abs(weight).max() for weight in found) == WEIGHT_MAX, "the range is used whole"
    assert not any(can_saturate(weight) for weight in found)
    assert any(can_saturate(2 * weight) for weight in found), "those of full range would"


def can_saturate(weights_MK: np.ndarray[Any, Any]) -> bool:
    """Whether there are activations of 0 to 255, and an order of the K inputs, for which the sum of two products leaves 16 bits.

    In these x86-64 without VNNI adds them. ONNX Runtime has no switch that hides VNNI; this law needs no processor.
    """
    ordered_MK = np.sort(weights_MK.astype(np.int64), axis=1)
    most_M, least_M = ordered_MK[:, -2:].clip(min=0).sum(1), ordered_MK[:, :2].clip(max=0).sum(1)
    return bool((255 * most_M > 2**15 - 1).any() or (255 * least_M < -(2**15)).any())


@pytest.mark.parametrize("name", NAMES)
def test_this_processor_makes_exact_sums(lowered: Any, name: str) -> None:
    """By default ONNX Runtime takes its fastest sums, which of full range are others here where there is no VNNI."""
    found = lowered(name, "int8")
    feeds = calibration_of(found.family, found.graph.inputs)[0]
    made = []
    for exactly in ("0", "1"):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", exactly)
        made.append(onnxruntime.InferenceSession(found.path, options, providers=["CPUExecutionProvider"]).run(None, feeds)[0])
    assert np.array_equal(*made)


@pytest.mark.parametrize("name", NAMES)
def test_half_the_precision_is_half_the_file(lowered: Any, name: str) -> None:
    made = lowered(name, "fp16")
    half, full = (
        sum(numpy_helper.to_array(weight).nbytes for weight in held(onnx.load(path).graph).values())
        for path in (made.path, made.whole)
    )
    assert half < 0.62 * full


@pytest.mark.slow
def test_products_in_a_loop_have_no_eight_bits(lowered: Any) -> None:
    """Five evaluations of three Heun steps."""
    with pytest.raises(ExportError, match=r"products stand in a loop; allowed: samplers of up to four network evaluations"):
        lowered("diffusion/edm", "int8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["diffusion/edm", *(pytest.param(f"diffusion/{each}", marks=pytest.mark.nightly) for each in LOOPED)]
)
def test_halves_within_a_loop_make_nearly_torchs_images(lowered: Any, name: str) -> None:
    made = lowered(name, "fp16")
    assert 0 < check_parity(made.family, made.path, made.graph).worst < MEAN_TOLERANCE["fp16"]
    assert "nodes" in inspect(made.path)


def test_a_graph_that_lost_too_much_is_refused(lowered: Any, make_family: Any) -> None:
    """The graph of other weights."""
    made = lowered("gan/sngan", "int8")
    other = make_family("gan/sngan", conditional=True)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-1)
    with pytest.raises(ExportError, match=r"differs from torch by 0\.\d+.*allowed: 0\.0627"):
        check_parity(other, made.path, made.graph)


@pytest.mark.parametrize(
    "precision", [pytest.param("fp16", marks=pytest.mark.nightly), pytest.param("int8", marks=pytest.mark.slow)]
)
def test_it_is_exported_the_same_way_twice(make_family: Any, tmp_path: Path, precision: Any) -> None:
    family, path = make_family("vae/gaussian"), tmp_path / "model.onnx"
    made = []
    for _ in range(2):
        graph = export_graph(family, path, precision=precision)
        made.append(path.read_bytes())
    assert made[0] == made[1]
    assert graph.precision == precision
    assert graph.nodes == len([*nodes(onnx.load(path).graph)])
    assert TOLERANCE < MEAN_TOLERANCE["fp16"] < MEAN_TOLERANCE["int8"]
