"""A text encoder beside the sampler: sealed with its tokenizer, and admitted where the two belong together."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import text_parts
from onnx import numpy_helper
from starlette.testclient import TestClient

from components.core.bundles import read_bundle, seal_bundle
from components.core.errors import BundleError, ExportError
from components.delivery.triton import write_triton
from components.export.admission import examine
from components.export.text_encoder import add_text_encoder, vocabulary_of
from components.runtime.prompts import Prompts
from components.runtime.session import GraphSampler
from components.serving.app import Service, fixed
from components.serving.engine import Engine

BuildText = Callable[..., Path]


def test_a_text_encoder_is_sealed_beside_the_sampler_and_served(build_text: BuildText, tmp_path: Path) -> None:
    made = tmp_path / "encoder"
    made.mkdir()
    text_parts.write_encoder(made)
    folder = build_text(fill=lambda folder: [(folder / name).unlink() for name in ("text_encoder.onnx", "tokenizer.json")],
                        changes={"graphs": []})  # fmt: skip
    bundle = add_text_encoder(folder, read_bundle(folder), made)
    seal_bundle(folder, bundle)
    again = read_bundle(folder)
    assert [graph.model_dump(mode="json") for graph in again.graphs] == [text_parts.DECLARED]
    assert {file.name for file in again.files} == {"model.onnx", "text_encoder.onnx", "tokenizer.json"}
    engine = Engine.load(folder, threads=1)
    assert engine.prompts is not None
    assert engine.prompts(["a red cat"]).shape == (1, text_parts.LENGTH, text_parts.FEATURES)
    verdict = examine(folder / "model.onnx", again)
    assert verdict.verdict == "pass", verdict.refusal
    assert verdict.checks[-1].text.endswith("of weights in 0.0 MB; reads 19 tokens")


def test_an_encoder_without_its_files_is_not_sealed(build_text: BuildText, tmp_path: Path) -> None:
    folder = build_text()
    with pytest.raises(ExportError, match=r"text_encoder.onnx: missing; remove the folder, so that it is made again"):
        add_text_encoder(folder, read_bundle(folder), tmp_path)


def change_weights(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "text_encoder.onnx"
        model = onnx.load(path)
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
        onnx.save(model, path)

    return apply


def many_rows(words: Any) -> Any:
    return words.repeat(100, axis=0)


def huge_house(words: Any) -> Any:
    rows = words.copy()
    rows[text_parts.VOCABULARY.index("house")] = 3e38  # whose norm is beyond FP32
    return rows


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a tokenizer of fewer tokens": (
        change_weights("words", many_rows),
        "text_encoder.onnx knows 1900 tokens, its tokenizer 19: they are of two encoders",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("[]"), "tokenizer.json: not a tokenizer"),
    "numbers beyond any": (
        change_weights("words", huge_house),
        "text_encoder.onnx: makes values that are NaN or infinite of texts",
    ),
}


FIRST = next(iter(REFUSED))
EACH = [pytest.param(*REFUSED[name], id=name, marks=() if name == FIRST else pytest.mark.nightly) for name in REFUSED]


@pytest.mark.parametrize(("fill", "says"), EACH)
def test_one_that_does_not_fit_is_not_admitted(build_text: BuildText, fill: Callable[[Path], Any], says: str) -> None:
    folder = build_text(fill=fill)
    verdict = examine(folder / "model.onnx", read_bundle(folder))
    assert verdict.verdict == "fail"
    assert verdict.refusal.startswith("graphs: ")
    assert says in verdict.refusal


def test_the_table_of_tokens_is_found_behind_casts(tmp_path: Path) -> None:
    text_parts.write_encoder(tmp_path)
    path = tmp_path / "text_encoder.onnx"
    assert vocabulary_of(path) == len(text_parts.VOCABULARY)
    model = onnx.load(path)
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["tokens"], ["cast"], to=onnx.TensorProto.INT32))
    (gather,) = (node for node in model.graph.node if node.op_type == "Gather")
    gather.input[1] = "cast"
    onnx.save(model, path)
    assert vocabulary_of(path) == len(text_parts.VOCABULARY)
    gather.input[1] = "elsewhere"
    onnx.save(model, path)
    assert vocabulary_of(path) is None


RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "no tokenizer": ({"files": lambda files: [each for each in files if each["name"] != "tokenizer.json"]},
                     "the graph 'text_encoder' without tokenizer.json"),
    "a tokenizer alone": ({"graphs": lambda _: []}, "tokenizer.json without the graph 'text_encoder'"),
    "another length": (
        {"graphs": lambda graphs: [graphs[0] | {"inputs": [{"name": "tokens", "datatype": "INT64", "shape": [9]}]}]},
        "is declared as tokens INT64 [9] to embedding FP32 [8, 12]; allowed: tokens INT64 [8] to embedding FP32 [8, 12], as the",
    ),
    "other features": (
        {"graphs": lambda graphs: [graphs[0] | {"outputs": [{"name": "embedding", "datatype": "FP32", "shape": [8, 13]}]}]},
        "is declared as tokens INT64 [8] to embedding FP32 [8, 13]; allowed",
    ),
    "a sampler that is asked by class": (
        {"spec": lambda spec: spec | {"condition": {"kind": "class", "classes": ["a"]}}},
        "the graph 'text_encoder', and a sampler that takes no embedding of a text",
    ),
    "a sampler that is asked by nothing": (
        {"spec": lambda spec: spec | {"condition": None}, "condition": lambda _: None},
        "the graph 'text_encoder', and a sampler that takes no embedding of a text",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), RECORDS.values(), ids=RECORDS)
def test_a_record_whose_parts_do_not_fit_is_refused(build_text: BuildText, changes: dict[str, Any], says: str) -> None:
    folder = build_text()
    record = read_bundle(folder).model_dump(mode="json")
    changed = type(read_bundle(folder)).model_validate(record | {key: change(record[key]) for key, change in changes.items()})
    seal_bundle(folder, changed)
    with pytest.raises(BundleError) as refused:
        read_bundle(folder)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["bert", "clip", "t5"])
def test_a_published_encoder_is_admitted_served_and_deployed(build_text: BuildText, tmp_path: Path, kind: str) -> None:
    """One that was made of the folder of a network: the same numbers in a proof, behind HTTP and in Triton's parts."""
    from tiny_text import write_source

    from components.core.brief import TextBrief
    from components.core.records import Licence
    from components.encoders.make import make_encoder
    from components.encoders.source import Source

    licence = Licence(name="apache-2.0", terms="free")
    source = Source.of(write_source(tmp_path / kind, kind), name=kind, licence=licence)
    encoder = source.record(TextBrief(length=None if kind == "clip" else 9), precision="fp32")
    made, condition = make_encoder(source, encoder, tmp_path / "made"), encoder.condition(negative=True)

    def fill(folder: Path) -> None:
        onnx.save(text_parts.sampler(negative=True, length=encoder.length, features=encoder.features), folder / "model.onnx")
        (folder / "text_encoder.onnx").unlink()
        (folder / "tokenizer.json").unlink()

    folder = build_text(negative=True, fill=fill, changes={"graphs": []})
    bundle = read_bundle(folder)
    spec = bundle.spec.model_copy(update={"condition": condition})
    bundle = add_text_encoder(folder, bundle.model_copy(update={"spec": spec}), made)
    seal_bundle(folder, bundle)
    verdict = examine(folder / "model.onnx", read_bundle(folder))
    assert verdict.verdict == "pass", verdict.refusal

    prompts, own = Prompts.open(folder), Prompts.open(made)
    texts, unwanted = ["a small red three", "", "the photo of a " * 20], ["", "two blue ones", "five"]
    rows = np.stack([own(texts), own(unwanted)], axis=1)
    service = Service()
    service.add(fixed("digits", "1", Engine.load(folder, threads=1)))
    with TestClient(service.app) as client:
        body = {"prompt": texts, "negative": unwanted, "seed": 3, "format": "npy"}
        reply = client.post("/v1/generate", json=body)
        assert reply.headers["x-prompt-cut"].startswith("0,0,")
        items = np.load(io.BytesIO(reply.content))
    assert np.array_equal(items, GraphSampler.of(folder, bundle, threads=1)([3, 4, 5], rows))

    write_triton(folder, bundle, version=1, to=tmp_path / "triton")
    parts = {name: onnxruntime.InferenceSession(tmp_path / "triton" / f"digits_{name}" / "1" / "model.onnx")
             for name in ("text_encoder", "condition")}  # fmt: skip
    feeds = {"tokens": prompts.tokens(texts), "negative_tokens": prompts.tokens(unwanted)}
    for side in ("", "negative_"):
        feeds[f"{side}embedding"] = parts["text_encoder"].run(None, {"tokens": feeds[f"{side}tokens"]})[0]
    np.testing.assert_allclose(parts["condition"].run(None, feeds)[0], rows, atol=1e-5)
