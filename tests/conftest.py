"""What all tests share: one thread a process, which tests run in one worker of pytest-xdist, and small bundles without torch."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch, numpy and their children are loaded: tensors here are small and the cores are shared with the other worker,
# so one thread is several times faster than two that wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import pytest  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from components.core.bundles import seal_bundle  # noqa: E402
from components.core.files import sha256_of  # noqa: E402
from components.core.records import Bundle  # noqa: E402

WHOLE_FOLDERS = ("tests/flows/",)  # their files share a production, which takes a minute to make
ALONE = ("tests/flows/test_variants.py",)  # so long that another worker should make its own production


def scope_of(nodeid: str) -> str:
    """What one worker runs whole: the tests of a file, or of a folder that shares a production; their fixtures are made once."""
    file = nodeid.partition("::")[0]
    whole = WHOLE_FOLDERS if file not in ALONE else ()
    return next((folder for folder in whole if file.startswith(folder)), file)


class Together(LoadScopeScheduling):
    """One worker runs all tests of a scope; scopes are begun in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """In place of `--dist loadgroup`, which xdist 3.8 does not do under pytest 9.2."""
    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Productions first, which take longest, then the scopes of many tests: so that no worker waits for another at the end."""
    count = Counter(scope_of(item.nodeid) for item in items)
    items.sort(key=lambda item: (not item.nodeid.startswith(WHOLE_FOLDERS), -count[scope_of(item.nodeid)]))


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
def small_graph() -> Callable[..., onnx.ModelProto]:
    """Makes the graph of a small bundle."""
    return graph


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a sealed bundle; `changes` alter its record, the others its graph."""

    def make(
        *,
        classes: bool = False,
        max_batch: int = MAX_BATCH,
        levels: bool = False,
        changes: dict[str, Any] | None = None,
        **shape: Any,
    ) -> Path:
        folder = tmp_path_factory.mktemp("bundle")
        model = graph(classes=classes, **shape)
        if levels:
            from components.export.graph import make_levels

            make_levels(model.graph, "x")
        onnx.save(model, folder / "model.onnx")
        file = {
            "name": "model.onnx",
            "sha256": sha256_of(folder / "model.onnx"),
            "size_bytes": (folder / "model.onnx").stat().st_size,
        }
        kind = {"output_type": "UINT8"} if levels else {}
        document = record(classes=classes, max_batch=max_batch) | {"files": [file]} | kind | (changes or {})
        seal_bundle(folder, Bundle.model_validate(document))
        return folder

    return make
