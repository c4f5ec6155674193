"""A family dropped in as a file is found, held to the contract, trained and exported: nothing else is edited."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import components
from components.core.records import Dataset

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
        x = batch.images_BCHW + 0.01 * torch.randn(batch.images_BCHW.shape, generator=rng)
        return {"model": (self.log_std + 0.5 * ((x - self.mean) / self.log_std.exp()) ** 2).mean()}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.spec.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return Sampler(self)
'''

ROAD = """
import sys
from pathlib import Path

import numpy as np

import components
from components.core.records import Dataset, DataSpec
from components.core.session import GraphSampler
from components.export.graph import export_graph
from components.export.parity import check_parity
from components.families import cards
from components.training.plan import TrainPlan
from components.training.trainer import Trainer, build, restore

here = Path(sys.argv[1])
assert Path(components.__file__).is_relative_to(here), components.__file__
assert ("flow", "pixel-gaussian") in cards()


class Split:
    labels = None

    def __len__(self):
        return 64

    def take(self, indices):
        return np.full((len(indices), 4, 4, 1), 200, np.uint8)


class Tracker:
    run_id = "run"
    params = metrics = image = artifact = lambda *args, **more: None


plan = TrainPlan(
    family="flow", variant="pixel-gaussian", config={"lr_peak": 0.05, "batch_size": 8, "ema_decay": 0.5},
    spec=DataSpec(channels=1, height=4, width=4), dataset=Dataset.read(here / "dataset.json"), folder=str(here / "run"),
    run_id="run", threads=1, steps=60,
)
trainer = Trainer(build(plan), plan, split=Split(), quality=lambda images: float(images.std()), tracker=Tracker())
checkpoint = trainer.run()
family = restore(checkpoint)
graph = export_graph(family, here / "model.onnx")
check_parity(family, here / "model.onnx", graph)
sampler = GraphSampler(here / "model.onnx", noise=family.noise_inputs(), condition=None, output=graph.output)
print(checkpoint.family, checkpoint.variant, checkpoint.step, sampler(range(200)).mean())
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the components with one more file in families."""
    folder = tmp_path_factory.mktemp("house")
    source = Path(components.__file__).parent
    shutil.copytree(source, folder / "components", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "components" / "families" / "pixels.py").write_text(FILE)
    return folder


def run(house: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=house, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_held_to_the_contract(house: Path) -> None:
    here = Path(__file__).parent
    for name in ("conftest.py", "test_contract.py"):
        shutil.copy(here / name, house / name)
    said = run(house, "-m", "pytest", "-vv", "--import-mode=importlib", "-p", "no:cacheprovider", "-k", "pixel", str(house))
    assert "test_an_item_does_not_depend_on_its_batch[flow/pixel-gaussian-9x13x3-none] PASSED" in said


def test_it_is_trained_and_exported(house: Path) -> None:
    Dataset(
        name="grey", path="", repo=".", rev="HEAD", md5="0", modality="image", shape=(4, 4, 1), count=64, classes=(),
        splits={"train": 64}, mean=(200.0,), std=(0.0,),
    ).write(house / "dataset.json")  # fmt: skip
    (house / "road.py").write_text(ROAD)
    family, variant, step, mean = run(house, "road.py", str(house)).split()
    assert (family, variant) == ("flow", "pixel-gaussian")
    assert int(step) > 0
    assert abs(float(mean) - 200) < 40
