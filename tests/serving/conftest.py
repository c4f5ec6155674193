"""Small real bundles made without torch, and real servers in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.core.bundles import seal_bundle
from components.core.files import sha256_of
from components.core.records import Bundle

SIDE, NOISE, CLASSES, MAX_BATCH = 8, 16, ("zero", "one", "two"), 16


def weights(*shape: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / np.sqrt(shape[0])


def constant(name: str, value: Any, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def graph(*, classes: bool, loops: int = 0, width: int = 64, scale: float = 1.0) -> onnx.ModelProto:
    """z [N, 16] (and a class index) -> x [N, 1, 8, 8] in (-1, 1): dense, convolution, tanh; `loops` make it slow."""
    nodes = [helper.make_node("MatMul", ["z", "W"], ["h0"])]
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", NOISE])]
    parameters = [constant("W", weights(NOISE, width, seed=1)), constant("K", weights(1, 1, 3, 3, seed=2))]
    parameters += [constant("V", weights(width, SIDE * SIDE, seed=4) * scale), constant("to", [-1, 1, SIDE, SIDE], np.int64)]
    last = "h0"
    if classes:
        nodes += [helper.make_node("Gather", ["E", "label"], ["e"]), helper.make_node("Add", ["h0", "e"], ["h1"])]
        inputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
        parameters.append(constant("E", 2 * weights(len(CLASSES), width, seed=3)))
        last = "h1"
    if loops:
        parameters.append(constant("S", weights(width, width, seed=5)))
        for k in range(loops):
            nodes += [helper.make_node("MatMul", [last, "S"], [f"s{k}"]), helper.make_node("Tanh", [f"s{k}"], [f"t{k}"])]
            last = f"t{k}"
    nodes += [
        helper.make_node("MatMul", [last, "V"], ["flat"]),
        helper.make_node("Reshape", ["flat", "to"], ["image"]),
        helper.make_node("Conv", ["image", "K"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["wide"], ["x"]),
    ]
    output = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])
    model = helper.make_model(
        helper.make_graph(nodes, "sampler", inputs, [output], parameters),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def record(*, classes: bool, max_batch: int) -> dict[str, Any]:
    figure = {"value": 1.0, "unit": "s", "basis": "a test"}
    decision = {"family": "vae", "variant": "residual", "mode": "scratch", "delivery": "one_pass"}
    decision |= dict.fromkeys(("reasons", "rejected", "warnings"), ())
    decision["estimate"] = dict.fromkeys(("training_s", "memory_gb", "cost_usd", "latency_ms"), figure)
    protocol = {
        "extractor": "e",
        "extractor_sha256": "0" * 64,
        "dataset_md5": "0" * 32,
        "reference_split": "test",
        "resizer": "none",
    }
    protocol |= {"reference_count": 1, "samples": 1, "seed": 0, "bootstrap": 1, "level": 0.95}
    lineage = {
        "run_id": "r",
        "brief_sha256": "0" * 64,
        "dataset_md5": "0" * 32,
        "dataset_rev": "HEAD",
        "checkpoint_sha256": "0" * 64,
    }
    return {
        "model": "digits",
        "family": "vae",
        "variant": "residual",
        "spec": {"channels": 1, "height": SIDE, "width": SIDE, "classes": CLASSES if classes else (), "conditional": classes},
        "noise": [{"name": "z", "shape": [NOISE]}],
        "condition": "label" if classes else None,
        "output": "x",
        "opset": 21,
        "max_batch": max_batch,
        "lineage": lineage | {"genwright": "0.1.0", "decision": decision},
        "scorecard": {"subject": "onnx:0", "device": "cpu", "metrics": {}, "protocol": protocol},
        "gates": {"verdict": "pass", "gates": (), "champion": None},
    }


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a sealed bundle; `changes` alter its record, the others its graph."""

    def make(*, classes: bool = False, max_batch: int = MAX_BATCH, changes: dict[str, Any] | None = None, **shape: Any) -> Path:
        folder = tmp_path_factory.mktemp("bundle")
        onnx.save(graph(classes=classes, **shape), folder / "model.onnx")
        file = {
            "name": "model.onnx",
            "sha256": sha256_of(folder / "model.onnx"),
            "size_bytes": (folder / "model.onnx").stat().st_size,
        }
        document = record(classes=classes, max_batch=max_batch) | {"files": [file]} | (changes or {})
        seal_bundle(folder, Bundle.model_validate(document))
        return folder

    return make


@pytest.fixture(scope="session")
def plain(build: Callable[..., Path]) -> Path:
    return build()


@pytest.fixture(scope="session")
def classy(build: Callable[..., Path]) -> Path:
    return build(classes=True)


@pytest.fixture(scope="session")
def slow(build: Callable[..., Path]) -> Path:
    """One image at a time, some tenths of a second each."""
    return build(max_batch=1, loops=300, width=1024)


RUN = """
import json, sys
from pathlib import Path
from components.core.errors import GenwrightError
from components.serving.limits import Limits
from components.serving.server import serve
options = json.loads(sys.argv[2])
limits = Limits(**options.pop("limits", {}))
try:
    serve(Path(sys.argv[1]), **{"model": "digits", "version": "3", "threads": 1, "port": 0} | options, limits=limits)
except GenwrightError as error:
    sys.stderr.write(f"{error}\\n")
    sys.exit(error.exit_code)
"""


def launch(folder: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(folder), json.dumps(options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})


@dataclass
class Running:
    """A server that answers."""

    process: subprocess.Popen[str]
    url: str
    greeting: str
    token: str | None = None
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def client(self) -> httpx.Client:
        if not self.clients:
            self.clients.append(httpx.Client(base_url=self.url, timeout=60, trust_env=False))
        return self.clients[0]

    def generate(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/generate", json=body)

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what it still said."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Running]:
    process = launch(folder, **options)
    assert process.stderr is not None
    greeting = process.stderr.readline()
    found = re.search(r"http://\S+", greeting)
    try:
        assert found, greeting + process.stderr.read()
        server = Running(process, found[0], greeting + process.stderr.readline())
        yield server
        for client in server.clients:
            client.close()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    """`with start(folder, **options) as server:` runs a server of its own for one test."""
    return running


@pytest.fixture(scope="session")
def start_failing() -> Callable[..., tuple[int, str]]:
    """Runs a server that must end by itself; its exit code and standard error."""

    def run(folder: Path, **options: Any) -> tuple[int, str]:
        process = launch(folder, **options)
        try:
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        return process.returncode, said

    return run


@pytest.fixture(scope="session")
def server(plain: Path) -> Iterator[Running]:
    with running(plain) as each:
        yield each


@pytest.fixture(scope="session")
def class_server(classy: Path) -> Iterator[Running]:
    with running(classy) as each:
        yield each
