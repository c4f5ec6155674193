"""A family of a new name, a metric and a gate, dropped as files into a copy of the package: a brief takes them down the road, and
nothing else is edited."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import components

FAMILY = '''"""Each pixel a Gaussian of its own: the mean image and its deviation."""

import torch
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput


class Sampler(nn.Module):
    def __init__(self, family: "PixelGaussian") -> None:
        super().__init__()
        self.mean, self.log_std = family.mean, family.log_std

    def forward(self, noise: Tensor) -> Tensor:
        return (self.mean + self.log_std.exp() * noise).clamp(-1, 1)


class PixelGaussian(Family):
    card = Card(
        family="gaussian", variant="pixelwise", title="A Gaussian a pixel", modalities=("image",), likelihood="none",
        latent=False, steps=1, side_max=64, data_appetite=2, references=("none",),
    )
    Config = FamilyConfig

    def __init__(self, config, spec) -> None:
        super().__init__(config, spec)
        self.mean = nn.Parameter(torch.zeros(spec.shape))
        self.log_std = nn.Parameter(torch.zeros(spec.shape))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        x = batch.x + 0.01 * torch.randn(batch.x.shape, generator=rng)
        return {"model": (self.log_std + 0.5 * ((x - self.mean) / self.log_std.exp()) ** 2).mean()}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.spec.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return Sampler(self)
'''
METRIC = """from components.core.metrics import Gate, Words

WORDS = (Words("mean_level", "Mean level", "of all values", unit="levels of 255", better="lower"),)
GATES = (Gate("mean_level_max", "mean_level", "max", default=200.0, takes="positive"),)


def compute(seen):
    return {"mean_level": seen.boot.mean(seen.items.reshape(len(seen.items), -1).mean(axis=1), stream="generated")}
"""
GATE = """from components.core.metrics import Gate, Words

WORDS = (Words("surplus", "Precision less recall", "the lower the better balanced", better="lower"),)
GATES = (Gate("surplus_max", "surplus", "max", default=1.0),)


def value(candidate, champion):
    one, other = candidate.metrics["precision"], candidate.metrics["recall"]
    return one.model_copy(update={"value": one.value - other.value, "low": one.low - other.high, "high": one.high - other.low})
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the three files in it."""
    root = Path(components.__file__).parents[1]
    for name in ("components", "flows"):
        shutil.copytree(root / name, tmp_path / "package" / name, ignore=shutil.ignore_patterns("__pycache__"))
    inside = tmp_path / "package" / "components"
    (inside / "families" / "pixelwise.py").write_text(FAMILY)
    (inside / "evaluation" / "metrics" / "mean_level.py").write_text(METRIC)
    (inside / "evaluation" / "gates" / "surplus.py").write_text(GATE)
    return tmp_path / "package"


@pytest.mark.slow
def test_they_go_down_the_road(first: Any, package: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    road = first.road.beside(tmp_path / "road")
    road.environment["PYTHONPATH"] = os.pathsep.join((str(package), os.environ.get("PYTHONPATH", "")))
    gates = {"mean_level_max": 190, "surplus_max": None}
    brief = json.loads(road.brief(name="new", override={"family": "gaussian"}).model_dump_json(exclude_unset=True))
    path = road.folder / "brief.yaml"

    def ran(gates: dict[str, Any], *arguments: str) -> Any:
        path.write_text(yaml.safe_dump(brief | {"gates": brief["gates"] | gates}))
        return road.cli(*arguments, str(path))

    wrong = ran({"mean_level_min": 1}, "plan")
    assert wrong.returncode == 2
    assert f"{path}: gates.mean_level_min: unknown key; allowed: fd_ratio_max," in wrong.stderr
    assert "mean_level_max" in wrong.stderr
    plan = ran(gates, "plan")
    assert "gaussian/pixelwise" in plan.stdout, plan.stderr
    produced = ran(gates, "produce", "--json")
    assert produced.returncode == 0, produced.stderr
    told = json.loads(produced.stdout)
    bundle = told["bundle"]["bundle"]
    assert (bundle["family"], bundle["variant"], told["promoted"]) == ("gaussian", "pixelwise", True)
    verdicts = {each["gate"]: each for each in told["gates"]["gates"]}
    assert (verdicts["mean_level_max"]["threshold"], verdicts["mean_level_max"]["verdict"]) == (190, "pass")
    assert "surplus_max" not in verdicts
    level = bundle["scorecard"]["metrics"]["mean_level"]
    logged = MlflowClient(road.backends().settings.mlflow_uri).get_run(told["release"]["run_id"]).data.metrics
    assert logged["proof/mean_level"] == level["value"]
    explained = road.cli("explain", "new")
    assert explained.returncode == 0, explained.stderr
    judged = ran(gates | {"surplus_max": -1.0}, "produce", "--json")  # a changed gate costs a proof alone
    assert judged.returncode == 3, judged.stderr
    assert "surplus_max" in judged.stderr
