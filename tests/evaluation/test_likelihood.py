"""Bits a dimension and reconstruction error of models for which both are known."""

import math

import pytest
import torch
from specs import image_data
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.likelihood import model_metrics

BOOT = Bootstrap(seed=0)


class Uniform(Family):
    """All 256^D images alike; its code is the image, rebuilt three grey levels off."""

    card = Card(
        family="flow", variant="uniform", title="", modalities=("image",), conditioning=("none", "class"), likelihood="exact",
        latent=True, steps=1, side_max=8, data_appetite=0, references=(),
    )  # fmt: skip
    Config = FamilyConfig

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        raise NotImplementedError

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=(1,)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        raise NotImplementedError

    def log_prob(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        assert (labels_B is not None) == self.spec.conditional
        wrong_B = 0.0 if labels_B is None else (labels_B - self.right[: len(labels_B)]).abs()
        return -math.log(256) * math.prod(self.spec.shape) - wrong_B * torch.ones(len(x_BCHW))

    def encode(self, x_BCHW: Tensor, *_: Tensor) -> Tensor:
        return x_BCHW

    def decode(self, z_BCHW: Tensor, *_: Tensor) -> Tensor:
        return z_BCHW + 3 / 127.5


class Without(Uniform):
    """The same without either claim."""

    card = Uniform.card.model_copy(update={"likelihood": "none", "latent": False})


def test_a_uniform_model_takes_eight_bits_and_is_three_levels_off(digits) -> None:
    family = Uniform(FamilyConfig(), image_data(channels=1, height=8, width=8))
    metrics = model_metrics(family, digits.validation, boot=BOOT)
    assert set(metrics) == {"bits_per_dim", "reconstruction_error"}
    assert metrics["bits_per_dim"].value == pytest.approx(8, abs=1e-5)
    assert metrics["reconstruction_error"].value == pytest.approx(3, abs=1e-3)
    assert {metric.n for metric in metrics.values()} == {len(digits.validation)}
    assert {metric.better for metric in metrics.values()} == {"lower"}


def test_each_image_is_told_its_own_class(digits) -> None:
    family = Uniform(FamilyConfig(), image_data(channels=1, height=8, width=8, classes=tuple("0123456789"), conditional=True))
    part = type(digits.validation)(digits.validation.images[:90], digits.validation.labels[:90])
    family.right = torch.from_numpy(part.labels)
    assert model_metrics(family, part, boot=BOOT)["bits_per_dim"].value == pytest.approx(8, abs=1e-5)


def test_what_a_card_does_not_claim_is_not_measured(digits) -> None:
    family = Without(FamilyConfig(), image_data(channels=1, height=8, width=8))
    assert model_metrics(family, digits.validation, boot=BOOT) == {}
