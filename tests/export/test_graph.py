"""The exported graph computes what torch computes, for any batch, and holds nothing of the machine it was made on."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from specs import image_data
from torch import Tensor, nn

from components.core.errors import ExportError
from components.export.graph import OPSET, example_inputs, export_graph
from components.export.parity import BATCHES, FLIPPED, TOLERANCE, check_parity
from components.families import cards
from components.families.vae import GaussianVAE
from components.training.sampling import TorchSampler


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of loop bodies and branches included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def test_every_variant_that_says_so_is_exported_here(exported_names: set[str]) -> None:
    assert exported_names == {"/".join(key) for key, (card, _, _) in cards().items() if card.exports}
    assert {name.split("/")[0] for name in exported_names} == {family for family, _ in cards()}, "one of each family at least"


def test_parity_with_torch_at_every_batch_size(exported: Any) -> None:
    assert BATCHES == (1, 2, 7, 32)
    parity = check_parity(exported.family, exported.path, exported.graph)
    assert tuple(parity.differences) == BATCHES
    assert parity.worst < TOLERANCE / 4


@pytest.mark.parametrize(
    "name",
    [
        "vae/gaussian",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gan/r3gan", "gan/style", "flow/glow")),
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("diffusion/edm", "autoregressive/pixelcnn")),
    ],
)
def test_linear_layers_of_one_pixel(name: str, export: Callable[..., Any]) -> None:
    made = export(name, False, (1, 1, 2))
    assert made.family.config.dense
    assert check_parity(made.family, made.path, made.graph).worst < TOLERANCE / 4


def test_large_batches(large: tuple[Any, int]) -> None:
    """diffusers' upsampling asks whether the batch is 64 or more: either answer must not be fixed in the graph."""
    exported, batch = large
    inputs = example_inputs(exported.family, batch, seed=3)
    with torch.inference_mode():
        expected = exported.family.sampler()(*inputs).numpy()
    got = exported.session().run({name: value.numpy() for name, value in zip(exported.graph.inputs, inputs, strict=True)})
    same = agreeing(exported, got, expected, within=TOLERANCE / 4)
    np.testing.assert_allclose(got[same], expected[same], atol=TOLERANCE / 4, rtol=0)


def agreeing(exported: Any, got: Any, expected: Any, *, within: float) -> Any:
    """The items to compare: all, but for those few of a discrete sampler that chose another category by rounding."""
    if not exported.family.card.discrete:
        return slice(None)
    same = np.abs(got.astype(float) - expected.astype(float)).max(axis=(1, 2, 3)) <= within
    assert same.mean() >= 1 - FLIPPED
    return same


def test_the_file_is_valid_onnx_of_our_opset(exported: Any) -> None:
    onnx.checker.check_model(exported.path, full_check=True)
    model = onnx.load(exported.path)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET == exported.graph.opset == 21
    assert exported.graph.nodes == len(list(nodes(model.graph)))
    assert not model.functions


@pytest.mark.slow
def test_group_norms_are_operators_with_kernels(export: Callable[..., Any]) -> None:
    """In the graph, and in the loop over its steps; each scale and bias stands in the file once."""
    made = export("diffusion/edm", True)
    graph = onnx.load(made.path).graph
    kinds = [node.op_type for node in nodes(graph)]
    assert "GroupNormalization" not in kinds
    norms = sum(isinstance(layer, nn.GroupNorm) for layer in made.family.modules())
    assert kinds.count("InstanceNormalization") == norms * (1 if "Loop" in kinds else 5)
    assert len(graph.initializer) == len({weight.name for weight in graph.initializer})


def test_noise_is_an_input_and_the_batch_is_free(exported: Any) -> None:
    graph = onnx.load(exported.path).graph
    noise = exported.family.noise_inputs()
    names = [entry.name for entry in noise] + (["condition"] if exported.family.spec.conditional else [])
    assert [value.name for value in graph.input] == names == list(exported.graph.inputs)
    assert exported.graph.condition == ("condition" if exported.family.spec.conditional else None)
    asked = exported.family.spec.condition.shape if exported.family.spec.conditional else ()
    for value, shape in zip(graph.input, [entry.shape for entry in noise] + [asked], strict=False):
        batch, *rest = value.type.tensor_type.shape.dim
        assert batch.dim_param, "the batch is a name, not a number"
        assert tuple(size.dim_value for size in rest) == shape
    (output,) = graph.output
    assert output.name == exported.graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    random = [
        node.op_type for node in nodes(graph) if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")
    ]
    assert not random
    assert "Dropout" not in {node.op_type for node in nodes(graph)}


def test_the_file_holds_nothing_of_this_machine(exported: Any) -> None:
    data = exported.path.read_bytes()
    here, home = str(Path(__file__).resolve().parents[2]).encode(), f"{os.environ.get('HOME', '')}/".encode()
    for trace in (
        here,
        sys.prefix.encode(),
        b"site-packages",
        b".py",
        b"stack_trace",
        b"Traceback",
        *([home] if home.count(b"/") > 1 else []),  # a user of a container may have none, or the root
    ):
        assert trace not in data, trace
    weights = sum(value.numel() for value in exported.family.sampler().state_dict().values()) * 4
    assert len(data) < 1.5 * weights + 200_000


def test_classes_reach_the_image(class_exported: Any) -> None:
    session = class_exported.session()
    one, same, other = (session([5, 6, 7, 8], class_exported.asked([label] * 4)) for label in (0, 0, 1))
    repeated = session([5] * 4, class_exported.asked([0] * 4))
    assert (repeated == repeated[0]).all()
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_both_samplers_draw_the_same_images(exported: Any) -> None:
    """Evaluation, export and the server see one image a seed, to a level of rounding."""
    labels = exported.asked([k % 3 for k in range(21)])
    graph = exported.session(batch=8)
    reference = TorchSampler(exported.family, subject="torch:x", batch=5)
    got, expected = graph(range(21), labels), reference(range(21), labels)
    assert got.shape == expected.shape == (21, *exported.family.spec.item.stored_shape)
    same = agreeing(exported, got, expected, within=1)
    assert np.abs(got[same].astype(int) - expected[same].astype(int)).max() <= 1
    assert graph.subject.startswith("onnx:")


@pytest.mark.slow
def test_the_size_of_a_graph_does_not_grow_with_its_steps(export: Callable[..., Any]) -> None:
    """One copy of the network in a loop, however many steps."""
    graph = onnx.load(export("diffusion/edm", True).path).graph
    weights = {value.name: numpy_helper.to_array(value).size for value in graph.initializer}
    trained = sum(parameter.numel() for parameter in export("diffusion/edm", True).family.parameters())
    assert sum(weights.values()) < 1.2 * trained
    assert "Loop" in {node.op_type for node in graph.node}


def test_a_graph_that_disagrees_is_refused(export: Callable[..., Any], make_family: Callable[..., Any]) -> None:
    exported = export("vae/gaussian")
    other = make_family("vae/gaussian")
    with torch.no_grad():
        other.decoder.stem.bias[0] += 1.0
    with pytest.raises(ExportError, match=r"model.onnx: differs from torch by \S+; allowed: 0.002 on a range of 2") as caught:
        check_parity(other, exported.path, exported.graph)
    assert "\n" not in str(caught.value)


def test_a_graph_of_nan_is_refused(make_family: Callable[..., Any], tmp_path: Path) -> None:
    family = make_family("vae/gaussian")
    graph = export_graph(family, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    for value in model.graph.initializer:
        if value.data_type == onnx.TensorProto.FLOAT:
            value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value) * np.float32("nan"), value.name))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="differs from torch by nan"):
        check_parity(family, tmp_path / "model.onnx", graph)


class Unexportable(GaussianVAE):
    """Its sampler asks for the values of a tensor, which no graph can."""

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        class Asking(nn.Module):
            def forward(self, z_BZ: Tensor) -> Tensor:
                return z_BZ if float(z_BZ.sum()) > 0 else -z_BZ

        return Asking()


def test_a_sampler_that_cannot_be_exported_is_refused_in_one_line(tmp_path: Path) -> None:
    family = Unexportable.build({"width": 16, "latent": 4}, image_data(channels=1, height=8, width=8))
    with pytest.raises(ExportError, match="vae/gaussian cannot be exported to ONNX: ") as caught:
        export_graph(family, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_exporting_says_nothing_and_changes_nothing(
    make_family: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    family = make_family("gan/sngan")
    before = {name: value.clone() for name, value in family.state_dict().items()}
    export_graph(family, tmp_path / "one.onnx")
    export_graph(family, tmp_path / "two.onnx")
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)
    assert all(torch.equal(before[name], value) for name, value in family.state_dict().items())
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes(), "the same weights, the same bytes"
    assert {path.name for path in tmp_path.iterdir()} == {"one.onnx", "two.onnx"}
