"""Real digits, an autoencoder that has seen them for a moment, every family with a latent space, and one that is a rotation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from specs import image_data
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig, to_data_units
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families import cards, find
from components.latent.space import Items, LatentSpace

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
LATENT = [  # each with a latent space, without classes and with them
    ("/".join(key), conditional)
    for key, (card, _, _) in sorted(cards().items())
    for conditional in (False, True)
    if card.latent and (not conditional or "class" in card.conditioning)
]
CLASSES = tuple("0123456789")


def spec(*, conditional: bool = False) -> DataSpec:
    return image_data(channels=1, height=8, width=8, classes=CLASSES, conditional=conditional, std=0.75)


@pytest.fixture(scope="session")
def digits() -> Items:
    raw = load_digits()
    return Items((raw.images * 255 / 16).round().astype(np.uint8)[..., None], raw.target.astype(np.int64))


@pytest.fixture(scope="session")
def train(digits: Items) -> Items:
    return Items(digits.images[:1200], digits.labels[:1200])


@pytest.fixture(scope="session")
def held_out(digits: Items) -> Items:
    return Items(digits.images[1200:1500], digits.labels[1200:1500])


@pytest.fixture(scope="session")
def autoencoder(train: Items) -> LatentSpace:
    """A plain autoencoder with 8 numbers a code, after 60 small steps."""
    torch.manual_seed(0)
    family = find("autoencoder", "plain").build({"width": 16, "latent": 8}, spec()).train()
    rng, x_NCHW = torch.Generator().manual_seed(0), to_data_units(train.images, spec().item)
    optimizer = torch.optim.AdamW(family.parameters(), lr=5e-3)
    for _ in range(60):
        chosen = torch.randint(len(x_NCHW), (24,), generator=rng)
        loss = family.losses(Batch(x_NCHW[chosen]), rng)["model"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return LatentSpace(family)


@pytest.fixture(params=LATENT, ids=str)
def any_kind(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """A family's name, and whether it is asked by class."""
    name, conditional = request.param
    return str(name), bool(conditional)


@pytest.fixture
def build() -> Any:
    """An untrained family by its name, as 'vae/vq'."""

    def make(name: str, *, conditional: bool = False) -> Family:
        torch.manual_seed(0)
        return find(*name.split("/")).build(TINY.get(name, {}), spec(conditional=conditional))

    return make


class Rotation(Family):
    """Codes are images turned by an orthogonal matrix: what is linear in the one is linear in the other."""

    card = Card(
        family="autoencoder",
        variant="rotation",
        title="a toy",
        modalities=("image",),
        likelihood="none",
        latent=True,
        steps=1,
        side_max=8,
        data_appetite=1,
        references=("none",),
    )
    Config = FamilyConfig

    def __init__(self, config: FamilyConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        size = spec.item.height * spec.item.width
        q_DD, _ = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0)))
        self.turn = nn.Parameter(q_DD)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        raise NotImplementedError

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        return x_BCHW.flatten(1) @ self.turn

    def decode(self, z_BD: Tensor, labels_B: Tensor | None = None) -> Tensor:
        return (z_BD @ self.turn.T).view(-1, *self.spec.shape).clamp(-1, 1)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=(64,)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        raise NotImplementedError


@pytest.fixture(scope="session")
def rotation() -> LatentSpace:
    return LatentSpace(Rotation.build({}, spec()))
