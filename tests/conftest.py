"""What all tests share: one thread a process, which tests run in one worker of pytest-xdist, and small bundles without torch."""

import json
import os
import shutil
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
import text_parts  # noqa: E402
from filelock import FileLock  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from components.core.bundles import seal_bundle  # noqa: E402
from components.core.files import sha256_of  # noqa: E402
from components.core.records import Bundle  # noqa: E402
from components.modalities.image.spec import ImageSpec  # noqa: E402
from components.runtime.cpus import usable_cpus  # noqa: E402

pytest_plugins = ["roads", "servers"]  # one production for the tests of flows and pipeline; SeaweedFS, PostgreSQL, MLflow
TIMES = Path(__file__).with_name("seconds.json")  # by tier and file: see docs/testing.md
ONE_TEST_S = 0.3  # of a file that has not been timed


def file_of(nodeid: str) -> str:
    """What one worker runs whole: the tests of a file, whose fixtures are then made once."""
    return nodeid.partition("::")[0]


def tier_of(item: pytest.Item) -> str:
    """Which target of the Makefile runs a test."""
    return next((f"test-{name}" for name in ("nightly", "slow") if item.get_closest_marker(name)), "test")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`, one more than there are cores: a test in eight waits for a process, a socket or a clock."""
    return usable_cpus() + 1


class WholeFiles(LoadScopeScheduling):
    """One worker runs all tests of a file; files are begun in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return file_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WholeFiles:
    """In place of `--dist loadfile`, which begins the files of many tests first, however short these are."""
    config.option.loadscopereorder = False
    return WholeFiles(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker waits for another at the end."""
    known = json.loads(TIMES.read_text())
    files = Counter((tier_of(item), file_of(item.nodeid)) for item in items)
    seconds = {file: known.get(tier, {}).get(file, count * ONE_TEST_S) for (tier, file), count in files.items()}
    items.sort(key=lambda item: (-seconds[file_of(item.nodeid)], file_of(item.nodeid)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-times", action="store_true", help="note in tests/seconds.json how long each file took")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With --write-times: the seconds of each file that was run, where there are many of them."""
    if not config.getoption("write_times"):
        return
    took: Counter[str] = Counter()
    for report in (each for reports in terminalreporter.stats.values() for each in reports if hasattr(each, "duration")):
        took[file_of(report.nodeid)] += report.duration
    tier = next((f"test-{name}" for name in ("slow", "nightly") if config.option.markexpr.startswith(name)), "test")
    known = json.loads(TIMES.read_text())
    known[tier] = {file: round(seconds) for file, seconds in took.most_common() if seconds >= 2}
    TIMES.write_text(json.dumps(known, indent=1) + "\n")


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
        "spec": {
            "item": {"modality": "image", "channels": 1, "height": SIDE, "width": SIDE},
            "condition": {"kind": "class", "classes": CLASSES} if classes else None,
        },
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
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder of this run that all workers share: the first to ask for it fills it, those that ask meanwhile wait.

    It keeps its path, which records may hold. Whoever writes into it takes a copy.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    root.mkdir(exist_ok=True)

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        path, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)  # of a worker that failed
                path.mkdir()
                fill(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def empty_store(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """An MLflow store with nothing in it, to copy: making one takes seconds."""

    def fill(folder: Path) -> None:
        from components.registry.mlflow_store import connect

        connect(f"sqlite:///{folder / 'mlflow.db'}")

    return made_once("empty-store", fill) / "mlflow.db"


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

            make_levels(model.graph, "x", ImageSpec.storage)
        onnx.save(model, folder / "model.onnx")
        kind = {"output_type": "UINT8"} if levels else {}
        document = record(classes=classes, max_batch=max_batch) | {"files": files_in(folder)} | kind | (changes or {})
        seal_bundle(folder, Bundle.model_validate(document))
        return folder

    return make


@pytest.fixture(scope="session")
def build_text(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a sealed bundle that is asked in words (tests/text_parts.py); `negative`: of a sampler that takes what is unwanted,
    too. `fill` may change its files before it is sealed, `changes` its record."""

    def make(
        *,
        negative: bool = False,
        max_batch: int = MAX_BATCH,
        fill: Callable[[Path], object] = lambda _: None,
        changes: dict[str, Any] | None = None,
    ) -> Path:
        folder = tmp_path_factory.mktemp("text-bundle")
        onnx.save(text_parts.sampler(negative=negative), folder / "model.onnx")
        text_parts.write_encoder(folder)
        fill(folder)
        spec = record(classes=False, max_batch=max_batch)["spec"] | {"condition": text_parts.CONDITION | {"negative": negative}}
        asked = {"spec": spec, "condition": "condition", "graphs": [text_parts.DECLARED], "files": files_in(folder)}
        document = record(classes=False, max_batch=max_batch) | asked | (changes or {})
        seal_bundle(folder, Bundle.model_validate(document))
        return folder

    return make


def files_in(folder: Path) -> list[dict[str, Any]]:
    """As a bundle names them."""
    paths = sorted(folder.iterdir())
    return [{"name": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size} for path in paths]
