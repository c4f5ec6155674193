"""A family dropped in as a file is found, held to the contract, trained and exported: nothing else is edited."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import components

FILE = '''"""Each pixel a Gaussian of its own: the mean image and its deviation."""

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
        family="flow", variant="pixel-gaussian", title="A Gaussian a pixel", modalities=("image",), likelihood="none",
        latent=False, steps=1, side_max=64, data_appetite=2, references=("none",),
    )
    Config = FamilyConfig

    def __init__(self, config, spec) -> None:
        super().__init__(config, spec)
        self.mean = nn.Parameter(torch.zeros(spec.shape))
        self.log_std = nn.Parameter(torch.zeros(spec.shape))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        # The noise makes the loss a draw of the generator's, as in any family.
        x = batch.x + 0.01 * torch.randn(batch.x.shape, generator=rng)
        return {"model": (self.log_std + 0.5 * ((x - self.mean) / self.log_std.exp()) ** 2).mean()}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.spec.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return Sampler(self)
'''

ROAD = """
from pathlib import Path

import numpy as np

import components
from components.core.records import LocalDataset, Reading
from components.runtime.session import GraphSampler
from components.export.graph import export_graph
from components.export.parity import check_parity
from components.families import cards
from components.training.plan import TrainPlan
from components.training.checkpoint import restore_best
from components.training.start import build
from components.training.trainer import Trainer
from specs import image_data, image_item

HERE = Path(__file__).parent
assert Path(components.__file__).is_relative_to(HERE), components.__file__
assert ("flow", "pixel-gaussian") in cards()


class Split:
    item = image_item(4, 4, 1)
    labels = None

    def __len__(self):
        return 64

    def take(self, indices):
        return np.full((len(indices), 4, 4, 1), 200, np.uint8)


class Tracker:
    run_id = "run"
    params = metrics = image = artifact = lambda *args, **more: None


DATASET = LocalDataset(
    name="grey", path="", repo=".", rev="HEAD", md5="0", item=image_item(4, 4, 1), count=64, classes=(),
    splits={"train": 64}, mean=(200.0,), std=(0.0,),
)


def test_it_is_trained_and_exported(tmp_path):
    plan = TrainPlan(
        family="flow", variant="pixel-gaussian", config={"lr_peak": 0.05, "batch_size": 8, "ema_decay": 0.5},
        spec=image_data(channels=1, height=4, width=4), dataset=DATASET, folder=str(tmp_path / "run"),
        run_id="run", threads=1, items_seen=60 * 8,
    )
    trainer = Trainer(build(plan), plan, split=Split(), quality=lambda images: Reading(distance=images.std()), tracker=Tracker())
    checkpoint = trainer.run()
    family = restore_best(plan, checkpoint)
    graph = export_graph(family, tmp_path / "model.onnx")
    check_parity(family, tmp_path / "model.onnx", graph)
    noise = family.noise_inputs()
    sampler = GraphSampler(tmp_path / "model.onnx", spec=family.spec, noise=noise, condition=None, output=graph.output)
    assert (checkpoint.family, checkpoint.variant) == ("flow", "pixel-gaussian")
    assert abs(sampler(range(200)).mean() - 200) < 40
"""


@pytest.mark.nightly
def test_it_is_found_held_to_the_contract_trained_and_exported(tmp_path: Path) -> None:
    """In a copy of the components with one more file in families."""
    source, here = Path(components.__file__).parent, Path(__file__).parent
    shutil.copytree(source, tmp_path / "components", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "components" / "families" / "pixels.py").write_text(FILE)
    for name in ("conftest.py", "test_contract.py"):
        shutil.copy(here / name, tmp_path / name)
    shutil.copy(here.parent / "specs.py", tmp_path / "specs.py")
    (tmp_path / "test_road.py").write_text(ROAD)
    options = ["-vv", "--import-mode=importlib", "-p", "no:cacheprovider", "-k", "pixel-gaussian or road"]
    command = [sys.executable, "-m", "pytest", *options]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_an_item_does_not_depend_on_its_batch[flow/pixel-gaussian-9x13x3-none] PASSED" in done.stdout
    assert "test_it_is_trained_and_exported PASSED" in done.stdout
