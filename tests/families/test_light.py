"""Light networks, for training on a CPU: they make the same images of any side from fewer places, and cost less."""

from itertools import product

import pytest
import torch
from specs import image_data

from components.core.family import Batch
from components.core.records import DataSpec
from components.families import cards, find
from components.families.blocks import fold, folded, unfold

SIDES = ((28, 28), (17, 30))


def spec(height: int, width: int) -> DataSpec:
    return image_data(channels=1, height=height, width=width, std=0.6)


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("name", ["/".join(key) for key in cards()])
def test_light_networks_learn_images_of_any_side(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    family = find(*name.split("/")).build({}, spec(*size), light=True)
    rng = torch.Generator().manual_seed(0)
    x_BCHW = torch.rand(2, 1, *size, generator=rng) * 2 - 1
    for progress, turn in product((0.1, 0.9), family.turns()):
        losses = family.losses(Batch(x_BCHW, progress=progress, turn=turn), rng)
        assert all(bool(loss.isfinite()) for loss in losses.values())


DRAWN = ["/".join(key) for key, (card, _, _) in cards().items() if not (card.steps > 1 and card.discrete)]


@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("name", DRAWN)
def test_light_networks_draw_images_of_any_side(name: str, size: tuple[int, int]) -> None:
    """But for those that draw a value at a time: hundreds of evaluations that are the same at any width."""
    torch.manual_seed(0)
    family = find(*name.split("/")).build({}, spec(*size), light=True).eval()
    with torch.no_grad():
        drawn = family.sampler(steps=2)(*family.noise(2, torch.Generator().manual_seed(0)))
    assert drawn.shape == (2, 1, *size)


@pytest.mark.parametrize("name", ["/".join(key) for key in cards()])
def test_light_networks_are_no_larger(name: str) -> None:
    cls = find(*name.split("/"))
    plain, light = (
        sum(parameter.numel() for parameter in cls.build({}, spec(28, 28), light=light).parameters()) for light in (False, True)
    )
    assert light <= 1.01 * plain


@pytest.mark.parametrize("size", [(28, 28), (17, 30), (3, 5)])
def test_squares_of_pixels_are_unfolded_to_the_same_image(size: tuple[int, int]) -> None:
    x_BCHW = torch.rand(2, 1, *size)
    squares_BCHW = torch.nn.Sequential(*fold(spec(*size), 4))(x_BCHW)
    seen = folded(spec(*size), 4)
    assert squares_BCHW.shape == (2, *seen.shape) == (2, 16, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.equal(torch.nn.Sequential(*unfold(spec(*size), 4))(squares_BCHW), x_BCHW)
    assert (fold(seen, 1), unfold(seen, 1), folded(seen, 1)) == ([], [], seen)
