"""Augmentation keeps shapes, lets gradients through, draws for each image on its own, and is nothing at strength zero."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from components.families.gan.augmentation import colour, cutout, shift

KINDS = pytest.mark.parametrize("augment", [shift, colour, cutout])
Augment = Callable[[Tensor, float, torch.Generator], Tensor]


def images(n: int = 4, *shape: int) -> Tensor:
    return torch.rand(n, *(shape or (3, 9, 13)), generator=torch.Generator().manual_seed(0)) * 2 - 1


@KINDS
def test_nothing_happens_at_strength_zero_and_nothing_is_drawn(augment: Augment) -> None:
    x_BCHW, rng = images(), torch.Generator().manual_seed(0)
    before = rng.get_state()
    assert augment(x_BCHW, 0.0, rng) is x_BCHW
    assert torch.equal(rng.get_state(), before)


@KINDS
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (1, 28, 28)])
def test_shapes_are_kept_and_equal_images_part(augment: Augment, shape: tuple[int, int, int]) -> None:
    x_BCHW = images(1, *shape).expand(12, *shape)
    out = augment(x_BCHW, 0.4, torch.Generator().manual_seed(0))
    assert out.shape == x_BCHW.shape
    assert out.dtype == x_BCHW.dtype
    assert len(torch.unique(out.flatten(1), dim=0)) > 3
    assert torch.equal(out, augment(x_BCHW, 0.4, torch.Generator().manual_seed(0)))


@KINDS
def test_gradients_pass(augment: Augment) -> None:
    """As the linear maps that they are for given draws: the change is that of the gradient, exactly."""
    x_BCHW = images().double().requires_grad_()
    direction = images(4, 3, 9, 13).flip(0).double()
    out = augment(x_BCHW, 0.4, torch.Generator().manual_seed(0))
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (slope,) = torch.autograd.grad((weight * out).sum(), x_BCHW)
    assert slope.abs().sum() > 0
    with torch.no_grad():
        moved = augment(x_BCHW + direction, 0.4, torch.Generator().manual_seed(0))
    assert torch.allclose((weight * (moved - out)).sum(), (slope * direction).sum())


def test_every_shift_is_as_likely() -> None:
    x_BCHW = (torch.arange(8.0)[:, None] * 10 + torch.arange(8.0)).expand(5000, 1, 8, 8)
    middle = shift(x_BCHW, 0.125, torch.Generator().manual_seed(0))[:, 0, 4, 4]
    values, counts = middle.unique(return_counts=True)
    assert values.tolist() == [33.0, 34.0, 35.0, 43.0, 44.0, 45.0, 53.0, 54.0, 55.0]
    assert float(counts.min()) > 5000 / 9 * 0.85


def test_colour_keeps_what_it_does_not_change() -> None:
    """Within an image, and without saturation to change, it is one line for all pixels: brightness and contrast."""
    x_BCHW = images(6, 1, 8, 8)
    out = colour(x_BCHW, 1.0, torch.Generator().manual_seed(0))
    steepness = (out - out.mean((1, 2, 3), keepdim=True)) / (x_BCHW - x_BCHW.mean((1, 2, 3), keepdim=True))
    assert torch.allclose(steepness, steepness[:, :, :1, :1].expand_as(steepness), atol=1e-3)
    assert ((steepness > 0.5 - 1e-3) & (steepness < 1.5 + 1e-3)).all()
    assert ((out.mean((1, 2, 3)) - x_BCHW.mean((1, 2, 3))).abs() <= 0.5).all()


@pytest.mark.parametrize("side", [8, 9])
def test_cutout_takes_one_rectangle(side: int) -> None:
    out = cutout(torch.ones(200, 1, side, side), 0.5, torch.Generator().manual_seed(0))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    gone = (out == 0).sum((1, 2, 3))
    assert int(gone.max()) == int(0.5 * side + 0.5) ** 2
    assert (gone > 0).all()
    assert (out == 0).any(0).all(), "every pixel is cut out at times"
