"""Bits a dimension and reconstruction error of models for which both are known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from specs import image_data
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.core.records import Metric
from components.evaluation.evaluated import Evaluated
from components.evaluation.metrics.bits_per_dim import compute
from components.evaluation.samples import draw_samples
from components.evaluation.score import measure
from components.evaluation.yardstick import make_yardstick


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

    def log_prob(self, x_BCHW: Tensor, labels_B: Tensor | None = None, *, rng: torch.Generator | None = None) -> Tensor:
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


@pytest.fixture
def told(digits, extractor, fitted):
    """What the metrics of a model tell of it; `split` is what it is held against."""

    def tell(family: Family, split: Any = None, *, seed: int = 0, measure: Any = measure) -> dict[str, Metric]:
        yardstick = make_yardstick(
            dataset=digits.dataset, train=digits.train, reference=split or digits.validation, extractor=extractor, seed=seed,
            samples=40,
        )  # fmt: skip
        drawn = draw_samples(fitted(8, seed=1), seed=0, samples=40)
        metrics = measure(Evaluated(drawn, yardstick, model=family))
        return {name: metric for name, metric in metrics.items() if name in ("bits_per_dim", "reconstruction_error")}

    return tell


def test_a_uniform_model_takes_eight_bits_and_is_three_levels_off(digits, told) -> None:
    family = Uniform(FamilyConfig(), image_data(channels=1, height=8, width=8))
    metrics = told(family)
    assert set(metrics) == {"bits_per_dim", "reconstruction_error"}
    assert metrics["bits_per_dim"].value == pytest.approx(8, abs=1e-5)
    assert metrics["reconstruction_error"].value == pytest.approx(3, abs=1e-3)
    assert {metric.n for metric in metrics.values()} == {len(digits.validation)}
    assert {metric.better for metric in metrics.values()} == {"lower"}


def test_each_image_is_told_its_own_class(digits, told) -> None:
    family = Uniform(FamilyConfig(), image_data(channels=1, height=8, width=8, classes=tuple("0123456789"), conditional=True))
    part = type(digits.validation)(digits.validation.images[:90], digits.validation.labels[:90])
    family.right = torch.from_numpy(part.labels)
    assert told(family, part)["bits_per_dim"].value == pytest.approx(8, abs=1e-5)


class Noisy(Uniform):
    """An estimate that is all noise, of deviation 1 bit a value."""

    def log_prob(self, x_BCHW: Tensor, labels_B: Tensor | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        return -math.log(2) * math.prod(self.spec.shape) * (8 + torch.randn(len(x_BCHW), generator=rng))


def test_each_batch_of_an_estimate_meets_noise_of_its_own(digits, told) -> None:
    """One noise for every batch of 100 left the mean of 230 items with the error of 100."""
    family = Noisy(FamilyConfig(), image_data(channels=1, height=8, width=8))
    values = [told(family, seed=seed, measure=compute)["bits_per_dim"].value - 8 for seed in range(20)]
    assert np.std(values) == pytest.approx(230**-0.5, rel=0.4)
    assert told(family, seed=3, measure=compute)["bits_per_dim"].value - 8 == values[3]


def test_what_a_card_does_not_claim_is_not_measured(told) -> None:
    family = Without(FamilyConfig(), image_data(channels=1, height=8, width=8))
    assert told(family) == {}
