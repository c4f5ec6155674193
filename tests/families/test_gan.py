"""The hinge loss by hand, spectral normalisation, and what the discriminator sees."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from components.families.gan.augmentation import shift
from components.families.gan.layers import batch_deviation


class Score(nn.Module):
    """D(x) = the first pixel of x, so that the images carry their own scores."""

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        return x_BCHW[:, 0, 0, 0]


class Fixed(nn.Module):
    """G(z) = given images."""

    def __init__(self, x_BCHW: Tensor) -> None:
        super().__init__()
        self.x_BCHW = x_BCHW

    def forward(self, z_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        return self.x_BCHW


def test_the_hinge_loss_by_hand(make_case: Any) -> None:
    case = make_case("gan", "sngan")
    family = case.build(shift=0.0, critic_steps=1)
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.25, -0.5])
    family.discriminator, family.generator = Score(), Fixed(fake.view(3, 1, 1, 1).expand(3, 1, 8, 8))
    batch = type(case.batch())(real.view(3, 1, 1, 1).expand(3, 1, 8, 8))
    losses = family.losses(batch, torch.Generator().manual_seed(0))
    assert float(losses["generator"].detach()) == pytest.approx((3.0 - 0.25 + 0.5) / 3)
    assert float(losses["discriminator"].detach()) == pytest.approx((0 + 0.5 + 2.0) / 3 + (0 + 1.25 + 0.5) / 3)


def test_every_layer_of_the_discriminator_has_norm_one(make_case: Any) -> None:
    case = make_case("gan", "sngan", conditional=True)
    family = case.build()
    for seed in range(40):
        family.losses(case.batch(4, seed=seed), torch.Generator().manual_seed(seed))
    weighted = [module for module in family.discriminator.modules() if hasattr(module, "weight")]
    layers = [module for module in weighted if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert len(layers) > 5
    family.eval()
    for layer in layers:
        assert parametrize.is_parametrized(layer, "weight")
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)


def test_a_shift_moves_whole_images_and_repeats_the_edge() -> None:
    x_BCHW = torch.arange(8.0).expand(5, 1, 8, 8)  # each row counts the columns
    shifted = shift(x_BCHW, 0.25, torch.Generator().manual_seed(0))
    offsets = [float(row[0, 0, 4]) - 4 for row in shifted]
    assert set(offsets) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert len(set(offsets)) > 1
    for image, offset in zip(shifted, offsets, strict=True):
        assert torch.equal(image[0], (torch.arange(8.0) + offset).clamp(0, 7).expand(8, 8))
    assert shift(x_BCHW, 0.0, torch.Generator()) is x_BCHW


def test_a_shift_lets_gradients_through() -> None:
    x_BCHW = torch.zeros(3, 2, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(shift(x_BCHW, 0.25, torch.Generator().manual_seed(0)).sum(), x_BCHW)
    assert torch.allclose(gradient.sum((1, 2, 3)), torch.full((3,), 128.0))


def test_a_collapsed_batch_shows_in_its_deviation() -> None:
    h_BCHW = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    plane = batch_deviation(h_BCHW)
    assert plane.shape == (4, 1, 2, 2)
    assert float(plane[0, 0, 0, 0]) == pytest.approx(float(h_BCHW.std(0, unbiased=False).mean()), abs=1e-4)
    assert float(batch_deviation(h_BCHW[:1].expand(4, -1, -1, -1)).max()) == pytest.approx(math.sqrt(1e-8), rel=0.01)
