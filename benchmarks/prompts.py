"""What does a prompt add to a request? One client asks the server for one image, over and over, in four ways that take turns:

    nothing     without a prompt: zeros, and the encoder is not run
    remembered  by a prompt that was asked for before
    new         by a prompt that nobody has asked for
    long        by a new one that fills all the tokens that the encoder reads

    .venv/bin/python benchmarks/prompts.py [--rounds 300] [--precision int8] [--bundle FOLDER]

The encoder is MiniLM at 32 tokens, the sampler a small convolutional network of random weights, whose time is subtracted; with
--bundle it is those of a bundle of your own, and the ratio says what a prompt costs there. Medians, and ms beyond `nothing`,
stand in benchmarks/results/prompts.json. Less than a minute, once the encoder has been made.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.servers import server
from benchmarks.shared import RESULTS, circumstances, verdicts
from components.core.bundles import MODEL_ONNX, read_bundle, seal_bundle
from components.core.files import sha256_of
from components.core.records import Bundle, EmbeddingCondition
from components.export.text_encoder import add_text_encoder
from components.runtime.prompts import Prompts

SIDE, WIDTH, LAYERS, NOISE = 32, 32, 4, 64
LENGTH = 32
ADDED_MS = 5.0  # what a new prompt may add at p50
PACKAGES = ("genwright", "onnxruntime-gpu", "tokenizers", "starlette", "uvicorn")
WORDS = (
    ("small", "large", "old", "happy", "sleeping", "shining", "wooden", "tiny", "angry", "golden"),
    ("red", "blue", "green", "white", "black", "yellow", "purple", "grey", "orange", "pink"),
    ("cat", "house", "bird", "rocket", "tree", "face", "flag", "fish", "clock", "flower"),
    ("on the moon", "in the rain", "at night", "under water", "with a hat", "on a hill", "by the sea", "in a box"),
)


def new_prompts() -> Iterator[str]:
    """8,000 captions of about ten tokens, none twice."""
    for place, (size, colour, thing) in itertools.product(WORDS[3], itertools.product(*WORDS[:3])):
        yield f"a {size} {colour} {thing} {place}"


def long_prompts(prompts: Prompts) -> Iterator[str]:
    """Captions that the encoder must cut."""
    for k, line in enumerate(new_prompts()):
        text = f"{k} " + " and ".join([line] * 10)
        assert prompts.cut(text)[1], "is not cut"
        yield text


def sampler(condition: EmbeddingCondition) -> onnx.ModelProto:
    """z [N, 64], condition [N, L, D] -> x [N, 3, 32, 32]: dense, then convolutions."""
    rng, size = np.random.default_rng(0), int(np.prod(condition.shape))

    def drawn(*shape: int) -> np.ndarray[Any, Any]:
        return rng.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))

    weights = {"Z": drawn(NOISE, SIDE * SIDE), "C": drawn(size, SIDE * SIDE), "to": np.array([-1, 1, SIDE, SIDE], np.int64)}
    nodes = [
        helper.make_node("Flatten", ["condition"], ["said"]),
        helper.make_node("MatMul", ["said", "C"], ["asked"]),
        helper.make_node("MatMul", ["z", "Z"], ["noise"]),
        helper.make_node("Add", ["noise", "asked"], ["flat"]),
        helper.make_node("Reshape", ["flat", "to"], ["h0"]),
    ]
    channels = [1, *[WIDTH] * LAYERS, 3]
    for k, (before, after) in enumerate(itertools.pairwise(channels)):
        weights[f"K{k}"] = drawn(after, before, 3, 3)
        nodes.append(helper.make_node("Conv", [f"h{k}", f"K{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Tanh", [f"c{k}"], [f"h{k + 1}" if k < LAYERS else "x"]))
    inputs = [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", NOISE]),
        helper.make_tensor_value_info("condition", TensorProto.FLOAT, ["n", *condition.shape]),
    ]
    output = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "sampler", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def record(condition: EmbeddingCondition, graph: Path) -> Bundle:
    """What a bundle of such a sampler says; nothing of it was trained or proved."""
    figure, digest = {"value": 1.0, "unit": "s", "basis": "a bench"}, "0" * 64
    protocol = {"extractor": "none", "extractor_sha256": digest, "dataset_md5": "0" * 32, "reference_split": "test"}
    decision = {"family": "diffusion", "variant": "edm", "mode": "scratch", "delivery": "one_pass"}
    decision |= dict.fromkeys(("reasons", "rejected", "warnings"), ())
    decision["estimate"] = dict.fromkeys(("training_s", "memory_gb", "cost_usd", "latency_ms"), figure)
    lineage = {"brief_sha256": digest, "dataset_md5": "0" * 32, "dataset_rev": "HEAD", "checkpoint_sha256": digest}
    return Bundle.model_validate(
        {
            "model": "m",
            "family": "diffusion",
            "variant": "edm",
            "spec": {
                "item": {"modality": "image", "channels": 3, "height": SIDE, "width": SIDE},
                "condition": condition.model_dump(mode="json"),
            },
            "noise": [{"name": "z", "shape": [NOISE]}],
            "condition": "condition",
            "output": "x",
            "opset": 21,
            "max_batch": 16,
            "files": [{"name": MODEL_ONNX, "sha256": sha256_of(graph), "size_bytes": graph.stat().st_size}],
            "lineage": lineage | {"genwright": "bench", "decision": decision},
            "scorecard": {
                "subject": "onnx:0",
                "device": "cpu",
                "metrics": {},
                "protocol": protocol
                | {"resizer": "none", "reference_count": 1, "samples": 1, "seed": 0, "bootstrap": 1, "level": 0.95},
            },
            "gates": {"verdict": "pass", "gates": (), "champion": None},
        }
    )


def bundle_with(encoder: Path, folder: Path) -> Path:
    """A sealed bundle in `folder` of this encoder and the small sampler."""
    read = Prompts.open(encoder)
    condition = EmbeddingCondition(length=read.length, features=read.features, encoder=f"bench@{'0' * 64}")
    onnx.save(sampler(condition), folder / MODEL_ONNX)
    seal_bundle(folder, add_text_encoder(folder, record(condition, folder / MODEL_ONNX), encoder))
    return folder


def minilm(folder: Path, precision: Literal["fp32", "int8"]) -> Path:
    """The encoder where none is named, made in `folder`."""
    from components.core.brief import TextBrief
    from components.core.records import Licence
    from components.encoders.make import make_encoder
    from components.encoders.minilm import MINILM, minilm_folder
    from components.encoders.source import Source

    source = Source.of(minilm_folder(), name=MINILM, licence=Licence(name="apache-2.0", terms="free"))
    return make_encoder(source, source.record(TextBrief(length=LENGTH), precision=precision), folder / "encoder")


def measured(folder: Path, *, rounds: int) -> dict[str, Any]:
    """Milliseconds of a request, by the way it asks; the ways take turns."""
    new, long = new_prompts(), long_prompts(Prompts.open(folder))
    ways: dict[str, Callable[[], dict[str, str]]] = {
        "nothing": dict,
        "remembered": lambda: {"prompt": "a prompt that is asked for again and again"},
        "new": lambda: {"prompt": next(new)},
        "long": lambda: {"prompt": next(long)},
    }
    spent_ms: dict[str, list[float]] = {way: [] for way in ways}
    with server(folder) as running, httpx.Client(base_url=f"http://127.0.0.1:{running.port}", trust_env=False) as client:
        for k in range(-20, rounds):  # the first ones warm up
            for way, asked in ways.items():
                body = json.dumps({"seed": 1, "format": "npy", **asked()})
                began = time.perf_counter()
                client.post("/v1/generate", content=body).raise_for_status()
                if k >= 0:
                    spent_ms[way].append(1000 * (time.perf_counter() - began))
    p50 = {way: statistics.median(each) for way, each in spent_ms.items()}
    return {
        "p50_ms": p50,
        "p95_ms": {way: statistics.quantiles(each, n=20)[-1] for way, each in spent_ms.items()},
        "least_ms": {way: min(each) for way, each in spent_ms.items()},  # which others on the machine disturb least
        "added_ms": {way: p50[way] - p50["nothing"] for way in ways if way != "nothing"},
        "ratio": {way: p50[way] / p50["nothing"] for way in ways if way != "nothing"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8", help="of MiniLM")
    parser.add_argument("--bundle", type=Path, help="the folder of a bundle that reads prompts")
    parser.add_argument("--encoder", type=Path, help="the folder of an encoder, in place of MiniLM")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, sealed = Path(name), Path(name, "bundle")
        sealed.mkdir()
        bundle = given.bundle or bundle_with(given.encoder or minilm(folder, given.precision), sealed)
        asked = read_bundle(bundle).spec.condition
        assert isinstance(asked, EmbeddingCondition), "it reads no prompts"
        found = measured(bundle, rounds=given.rounds)
    found |= verdicts({"added_ms.new": (found["added_ms"]["new"], "<=", ADDED_MS)})
    found["asked"] = {
        "encoder": asked.encoder,
        "tokens": asked.length,
        "precision": given.precision,
        "rounds": given.rounds,
        "bundle": bool(given.bundle),
    }
    found["taken"] = circumstances(*PACKAGES)
    (RESULTS / "prompts.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
