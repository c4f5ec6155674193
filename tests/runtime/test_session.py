"""A graph as a sampler: an image depends on its seed and label alone, and becomes uint8 by rounding half to even."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from specs import image_data, to_uint8

from components.core.errors import BundleError
from components.core.noise import NoiseInput, draw
from components.core.protocols import ItemSampler
from components.runtime.session import GraphSampler

Z = NoiseInput(name="z", shape=(1, 2, 2))
SPECS = {told: image_data(channels=1, height=2, width=2, classes=("a", "b", "c"), conditional=told) for told in (False, True)}


@pytest.fixture
def sampler(tmp_path: Path) -> Callable[..., GraphSampler]:
    """Samplers of the graph x = tanh(z) or, with classes, x = tanh(z + y)."""

    def made(*, classes: bool = False, batch: int = 4, threads: int = 1) -> GraphSampler:
        z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 1, 2, 2])
        y = helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])
        shape = helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 1, 1, 1])
        nodes = [helper.make_node("Tanh", ["sum" if classes else "z"], ["x"])]
        if classes:
            nodes = [
                helper.make_node("Cast", ["y"], ["yf"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", ["yf", "shape"], ["y4"]),
                helper.make_node("Add", ["z", "y4"], ["sum"]),
                *nodes,
            ]
        graph = helper.make_graph(nodes, "toy", [z, y] if classes else [z], [x], [shape] if classes else [])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        path = tmp_path / f"{classes}.onnx"
        onnx.save(model, path)
        return GraphSampler(
            path, spec=SPECS[classes], noise=[Z], condition="y" if classes else None, output="x", batch=batch, threads=threads
        )

    return made


def test_an_image_depends_on_its_seed_alone(sampler: Callable[..., GraphSampler]) -> None:
    one: ItemSampler = sampler()
    seeds = [3, 1, 4, 1, 5, 9, 2, 6, 5]
    together = one(seeds)
    assert (together.shape, together.dtype) == ((9, 2, 2, 1), np.uint8)
    assert np.array_equal(together, np.concatenate([one([seed]) for seed in seeds]))
    assert np.array_equal(together, to_uint8(np.tanh(draw([Z], seeds)["z"])))
    assert np.array_equal(together, sampler(batch=16)(seeds))
    assert one.subject.startswith("onnx:")
    assert len(one.subject) == 5 + 64


def test_labels_reach_their_images(sampler: Callable[..., GraphSampler]) -> None:
    one = sampler(classes=True)
    seeds, labels = [7, 7, 7, 8, 8], [0, 1, 2, 0, 1]
    together = one(seeds, labels)
    shifted = draw([Z], seeds)["z"] + np.array(labels, np.float32).reshape(-1, 1, 1, 1)
    assert np.array_equal(together, to_uint8(np.tanh(shifted)))
    assert np.array_equal(together[4:], one([8], [1]))
    assert np.array_equal(one([7]), one([7], [0]))


def test_several_runs_at_once_give_the_bytes_of_one_after_another(
    sampler: Callable[..., GraphSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.runtime.session.GAIN", 0.0)
    one, two = sampler(batch=3), sampler(batch=3, threads=2)
    assert (one.lanes, two.lanes) == (1, 2)
    seeds = [*range(50)]
    assert np.array_equal(one(seeds), two(seeds))
    two.enable_parallel_session()
    assert two.wide is not None
    assert np.array_equal(one(seeds), two(seeds))
    assert np.array_equal(one([7]), two([7]))


def test_all_threads_take_a_lone_run_only_where_they_are_faster(
    sampler: Callable[..., GraphSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    for gain, widened in ((1e9, False), (0.0, True)):
        monkeypatch.setattr("components.runtime.session.GAIN", gain)
        two = sampler(batch=1, threads=2)
        two.enable_parallel_session()
        assert (two.wide is not None) is widened
        assert np.array_equal(two([7]), sampler(batch=1)([7]))


def test_rounding_to_uint8() -> None:
    levels = np.arange(256)
    x = (levels / 127.5 - 1).astype(np.float32)
    assert np.array_equal(to_uint8(x.reshape(1, 1, 16, 16)).ravel(), levels)
    edges = np.array([-1.5, -1.0, 0.0, 1.0, 1.5, 2 / 127.5 - 1 + 1e-4], np.float32).reshape(1, 1, 1, 6)
    assert to_uint8(edges).ravel().tolist() == [0, 0, 128, 255, 255, 2]  # 127.5 rounds to the even 128
    channels = np.zeros((2, 3, 4, 5), np.float32)
    assert to_uint8(channels).shape == (2, 4, 5, 3)
    assert to_uint8(channels).flags["C_CONTIGUOUS"]


def test_what_is_no_graph_is_told_in_one_line(tmp_path: Path, sampler: Callable[..., GraphSampler]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    for path in (tmp_path / "model.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(BundleError, match="ONNX Runtime cannot load it") as caught:
            GraphSampler(path, spec=SPECS[False], noise=[Z], condition=None, output="x")
        assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="ONNX Runtime cannot run it") as caught:
        sampler().run({"z": np.zeros((1, 1, 3, 3), np.float32)})
    assert "\n" not in str(caught.value)
