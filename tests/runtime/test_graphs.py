"""Bundles of several graphs, and those of before there were any: format 1 still verifies, is admitted and serves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from roads import unpack_older_home

from components.core.bundles import BUNDLE_JSON, read_bundle
from components.core.errors import BundleError
from components.core.files import sha256_of
from components.core.records import ClassCondition
from components.export.admission import examine
from components.serving.engine import Engine

Build = Callable[..., Path]
TOKENS, FEATURES = 5, 3
DECLARED = {
    "name": "table",
    "file": "table.onnx",
    "inputs": [{"name": "tokens", "datatype": "INT64", "shape": [TOKENS]}],
    "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [TOKENS, FEATURES]}],
    "opset": 21,
}


def table(path: Path) -> None:
    """tokens [N, 5] -> embedding [N, 5, 3]: a table."""
    rows = np.random.default_rng(0).standard_normal((7, FEATURES)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["rows", "tokens"], ["embedding"])],
        "table",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", TOKENS])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", TOKENS, FEATURES])],
        [numpy_helper.from_array(rows, "rows")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


@pytest.fixture
def two_graphs(build: Build, tmp_path: Path) -> Callable[..., Path]:
    """A bundle with a table beside its sampler, declared with these changes."""
    path = tmp_path / "table.onnx"
    table(path)

    def make(**changes: Any) -> Path:
        plain = build()
        files = [file.model_dump(mode="json") for file in read_bundle(plain).files]
        files.append({"name": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size})
        folder = build(changes={"files": files, "graphs": [DECLARED | changes]})
        (folder / path.name).write_bytes(path.read_bytes())
        return folder

    return make


def test_every_graph_is_verified_admitted_and_loaded(two_graphs: Callable[..., Path]) -> None:
    folder = two_graphs()
    bundle = read_bundle(folder)
    assert bundle.format == 2
    verdict = examine(folder / "model.onnx", bundle)
    assert verdict.verdict == "pass", verdict.refusal
    assert verdict.checks[-1].check == "graphs"
    assert verdict.checks[-1].text.startswith("table: 1 nodes")
    engine = Engine.load(folder)
    (embedding,) = engine.graphs["table"].run(None, {"tokens": np.arange(2 * TOKENS).reshape(2, TOKENS) % 7})
    assert embedding.shape == (2, TOKENS, FEATURES)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"outputs": [{"name": "embedding", "datatype": "FP32", "shape": [TOKENS, 4]}]}, r"'embedding' is \[2, 5, 3\]"),
        ({"inputs": [{"name": "words", "datatype": "INT64", "shape": [TOKENS]}]}, "bundle.json declares"),
        ({"inputs": [{"name": "tokens", "datatype": "FP32", "shape": [TOKENS]}]}, "bundle.json declares"),
    ],
)
def test_one_that_is_not_as_declared_is_neither_admitted_nor_loaded(
    two_graphs: Callable[..., Path], changes: dict[str, Any], text: str
) -> None:
    folder = two_graphs(**changes)
    verdict = examine(folder / "model.onnx", read_bundle(folder))
    assert verdict.verdict == "fail"
    assert verdict.refusal.startswith("graphs: table.onnx: ")
    with pytest.raises(BundleError, match=text):
        Engine.load(folder)


def test_a_graph_names_a_file_of_the_bundle_other_than_the_samplers(two_graphs: Callable[..., Path]) -> None:
    for file in ("missing.onnx", "model.onnx"):
        with pytest.raises(BundleError, match=f"its graphs are the files .'{file}'"):
            read_bundle(two_graphs(file=file))


def test_a_bundle_of_format_1_verifies_is_admitted_and_serves(tmp_path: Path) -> None:
    """As a version wrote it that knew images and one graph: one without classes, one by class."""
    bundles = [*(unpack_older_home(tmp_path) / "store" / "bundles").iterdir()]
    found = {read_bundle(folder, sha256=folder.name).spec.condition: folder for folder in bundles}
    assert {*found} == {None, ClassCondition(classes=tuple("0123456789"))}
    for condition, folder in found.items():
        written = (folder / BUNDLE_JSON).read_bytes()
        bundle = read_bundle(folder, sha256=folder.name)
        assert (json.loads(written)["format"], bundle.format, bundle.spec.item.text, bundle.graphs) == (1, 1, "8x8x1", ())
        verdict = examine(folder / "model.onnx", bundle)
        assert verdict.verdict == "pass", verdict.refusal
        assert Engine.load(folder).sampler([1, 2], [0, 1] if condition else None).shape == (2, 8, 8, 1)
        assert (folder / BUNDLE_JSON).read_bytes() == written
