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
import torch
import yaml
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from specs import ArraySplit, image_data, image_item

from components.core.arrays import Stored
from components.core.files import sha256_of
from components.core.records import Artifact, Checkpoint, DataSpec, LocalDataset
from components.families.texts import text_of
from components.training.device import TrainingDevice
from components.training.learner import Learner
from components.training.plan import TrainPlan
from components.training.start import build
from components.training.start.finetune import Finetune, recipe

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

    def make(
        family: str = "vae/gaussian", *, folder: str = "run", conditional: bool = False, spec: DataSpec | None = None, **more: Any
    ) -> TrainPlan:
        name, variant = family.split("/")
        config = TINY.get(family, {}) | {"batch_size": 16, "warmup_steps": 2} | more.pop("config", {})
        spec = spec or image_data(channels=1, height=8, width=8, classes=tuple("0123456789"), conditional=conditional)
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


@pytest.fixture
def a_base(tmp_path: Path, make_plan: Any) -> Callable[..., Finetune]:
    """The start from a base none of whose weights is at its own start."""

    def make(family: str, *, conditional: bool = False, seed: int = 3, spec: DataSpec | None = None, **config: Any) -> Finetune:
        plan = make_plan(family, conditional=conditional, seed=seed, spec=spec, config=config)
        model = build(plan)
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
            for buffer in model.buffers():
                if buffer.dtype == torch.bool:  # a flow's, that it was fitted to its first batch
                    buffer.fill_(True)
        path = tmp_path / f"base-{seed}" / "weights.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({name: value.contiguous() for name, value in model.kept().items()}, path)
        checkpoint = Checkpoint(
            weights=Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size),
            family=plan.family, variant=plan.variant, config=model.config.model_dump(mode="json"), spec=plan.spec,
            dataset_md5="d0", run_id="r", step=1, steps_total=1, train_s=1.0, quality=1.0, stopped_by="items_seen",
        )  # fmt: skip
        return Finetune(base=checkpoint, weights=path)

    return make


@pytest.fixture
def tuned(make_plan: Any) -> Callable[..., TrainPlan]:
    """The plan of a fine-tuning, of data of another mean and spread and with another seed than its base's."""

    def make(start: Any, *, variant: str | None = None, **more: Any) -> TrainPlan:
        base = start.base
        variant = variant or base.variant
        config = recipe(base, variant=variant) | more.pop("config", {})
        by_text = base.spec if text_of(base.spec) else None
        asked = {"conditional": base.spec.conditional, "spec": by_text}
        plan = make_plan(f"{base.family}/{variant}", start=start, config=config, **asked, **more)
        return plan.model_copy(update={"spec": plan.spec.model_copy(update={"std": 0.3, "mean": (0.4,)})})

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


@pytest.fixture
def make_learner(make_plan: Any) -> Callable[..., Learner]:
    """Of a plan's first weights, on one thread of the CPU."""
    torch.set_num_threads(1)

    def make(family: str, **more: Any) -> Learner:
        plan = make_plan(family, **more)
        return Learner(build(plan), plan, TrainingDevice(torch.device("cpu")))

    return make
