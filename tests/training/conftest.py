"""Real digits, a plan that ends in a second, a tracker that remembers, and processes that may be killed."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits
from specs import ArraySplit, image_data, image_item

from components.core.arrays import Stored
from components.core.records import LocalDataset
from components.training.plan import TrainPlan

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
TINY["vae/gaussian"] |= {"dropout": 0.1}  # so that one resumed run has drawn from torch's own generator


@dataclass
class Recorder:
    """A tracker that remembers."""

    run_id: str = "run-1"
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    images: list[tuple[str, int, tuple[int, ...]]] = field(default_factory=list)

    def params(self, values: Mapping[str, object]) -> None:
        raise AssertionError("the trainer logs no parameters")

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        self.logged.append((step, dict(values)))

    def image(self, name: str, image: Stored, *, step: int) -> None:
        assert image.dtype == np.uint8
        self.images.append((name, step, image.shape))

    def artifact(self, path: Path, folder: str = "") -> None:
        raise AssertionError("the trainer logs no artifacts")

    def series(self, name: str) -> dict[int, float]:
        return {step: values[name] for step, values in self.logged if name in values}


@pytest.fixture(scope="session")
def make_split() -> type[ArraySplit]:
    return ArraySplit


@pytest.fixture(scope="session")
def digits() -> ArraySplit:
    raw = load_digits()
    images = (raw.images[:96] * 255 / 16).round().astype(np.uint8)[..., None]
    return ArraySplit(images, raw.target[:96].astype(np.int64))


@pytest.fixture
def tracker() -> Recorder:
    return Recorder()


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., TrainPlan]:
    """A plan of few steps; `family` as 'vae/gaussian', `config` on top of the smallest one."""

    def make(family: str = "vae/gaussian", *, folder: str = "run", conditional: bool = False, **more: Any) -> TrainPlan:
        name, variant = family.split("/")
        config = TINY.get(family, {}) | {"batch_size": 16, "warmup_steps": 2} | more.pop("config", {})
        spec = image_data(channels=1, height=8, width=8, classes=tuple("0123456789"), conditional=conditional)
        dataset = LocalDataset(
            name="digits", path="", repo=".", rev="HEAD", md5="d1", item=image_item(8, 8, 1), count=96,
            classes=spec.classes, splits={"train": 96}, mean=(0.0,), std=(1.0,),
        )  # fmt: skip
        steps = more.pop("steps", 6)
        work = {"items_seen": None if steps is None else steps * config["batch_size"]}
        told = work | {"state_every_s": 1e-9, "signal_images": 4, "signal_steps": 2, "threads": 1} | more
        return TrainPlan(
            family=name, variant=variant, config=config, spec=spec, dataset=dataset, folder=str(tmp_path / folder),
            run_id="run-1", **told,
        )  # fmt: skip

    return make


class Forks:
    """A process that has imported all it needs and trains each plan in a fork, which may be killed at a chosen moment."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "forks.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def train(self, plan: TrainPlan, *, at: str = "", n: int = 0, signal: int = 9, of: int = 1) -> dict[str, Any]:
        """Train in `of` processes; send `signal` before the n-th (from 1) event `at`: step, quality, rename. How it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"plan": plan.model_dump(mode="json"), "at": at, "n": n, "signal": signal, "of": of}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()
