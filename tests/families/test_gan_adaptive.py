"""The geometry and the colours of adaptive augmentation against what they are by definition, and how fast its strength moves."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from components.families.gan.adaptive import BATCHES, AdaptiveAugment
from components.families.gan.adversarial import Scored
from components.families.gan.colours import hue, luma_flip, saturation
from components.families.gan.geometry import resample, scale, stretch, translate, turn

SHAPES = pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (1, 28, 28), (4, 1, 1)])
SAME = torch.eye(3)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=rng(seed)) * 2 - 1


def ramp(height: int, width: int) -> Tensor:
    """Twice the column plus the row, counted from the centre: bilinear resampling of it is exact."""
    rows, columns = (torch.arange(n) - (n - 1) / 2 for n in (height, width))
    return (2 * columns + rows[:, None])[None, None]


@SHAPES
def test_where_nothing_moves_every_bit_stays(shape: tuple[int, int, int]) -> None:
    x_BCHW = images(5, *shape)
    assert torch.equal(resample(x_BCHW, SAME.expand(5, 3, 3)), x_BCHW)


@pytest.mark.parametrize("side", [8, 9])
def test_a_right_angle_is_a_turn_of_the_pixels(side: int) -> None:
    x_BCHW = images(2, 3, side, side)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for turns in (1, 2, 3):
        a_33 = torch.linalg.matrix_power(quarter, turns)
        torch.testing.assert_close(resample(x_BCHW, a_33.expand(2, 3, 3)), x_BCHW.rot90(turns, (2, 3)), atol=1e-6, rtol=0)


def test_what_is_outside_is_the_reflection() -> None:
    x_BCHW = torch.arange(5.0).expand(1, 1, 5, 5)
    by_three = torch.tensor([[1.0, 0, 3], [0, 1, 0], [0, 0, 1]])
    assert resample(x_BCHW, by_three[None])[0, 0, 0].tolist() == [3, 4, 3, 2, 1]
    assert resample(x_BCHW, torch.linalg.inv(by_three)[None])[0, 0, 0].tolist() == [3, 2, 1, 0, 1]


@pytest.mark.parametrize("size", [(16, 16), (15, 22)])
def test_one_after_another_is_all_at_once(size: tuple[int, int]) -> None:
    """A is the product of the inverses in the order in which the transformations are done; what came in from outside aside."""
    drawn = (1, *size)
    first, then = scale(drawn, rng(1)), translate(drawn, rng(2)) * torch.tensor([[1, 1, 0.2], [1, 1, 0.2], [1, 1, 1]])
    stepwise = resample(resample(ramp(*size), first), then)
    inside = (slice(None), slice(None), slice(5, -5), slice(5, -5))
    torch.testing.assert_close(resample(ramp(*size), first @ then)[inside], stepwise[inside], atol=1e-4, rtol=0)


def test_they_are_drawn_as_in_the_paper() -> None:
    size, n = (4000, 20, 10), 4000
    for draw, determinant in ((scale, None), (stretch, 1.0), (turn, 1.0)):
        a_B33 = draw(size, rng())
        found = torch.linalg.det(a_B33)
        assert determinant is None or torch.allclose(found, torch.ones(n), atol=1e-4)
    logs = scale(size, rng())[:, 0, 0].log2()
    assert (float(logs.mean()), float(logs.std())) == pytest.approx((0.0, 0.2), abs=0.01)
    angles = torch.atan2(turn(size, rng())[:, 1, 0], turn(size, rng())[:, 0, 0])
    assert float(angles.std()) == pytest.approx(2 * math.pi / math.sqrt(12), rel=0.03)
    right, down = translate(size, rng())[:, :2, 2].T
    assert (float(right.std()), float(down.std())) == pytest.approx((0.125 * 10, 0.125 * 20), rel=0.05)


@pytest.mark.parametrize("strength", [0.3, 0.8])
def test_an_image_stays_upright_as_often_as_no_turn_leaks(strength: float) -> None:
    """Two turns, before and after the stretch: an image is turned with probability p, and not with p twice."""
    module = AdaptiveAugment(("turn",), target=0.6, limit=1.0)
    module.strength.fill_(strength)
    x_BCHW = images(1, 1, 6, 6).expand(4000, 1, 6, 6)
    upright = (module(x_BCHW, rng()) == x_BCHW).flatten(1).all(1).float().mean()
    assert float(upright) == pytest.approx(1 - strength, abs=0.03)


def test_a_grey_image_flips_to_its_negative_and_has_no_colour_to_change() -> None:
    x_BCHW = images(64, 1, 3, 3)
    flipped = luma_flip(x_BCHW, rng())
    negative_B = (flipped == -x_BCHW).flatten(1).all(1)
    assert 16 < int(negative_B.sum()) < 48
    assert torch.equal(flipped[~negative_B], x_BCHW[~negative_B])
    assert all(transform(x_BCHW, rng()) is x_BCHW for transform in (hue, saturation))


def test_colours_change_what_they_are_named_for_and_nothing_else() -> None:
    x_BCHW = images(64, 3, 5, 5).double()
    grey, rest = x_BCHW.mean(1, keepdim=True), x_BCHW - x_BCHW.mean(1, keepdim=True)
    flipped, turned, paler = (transform(x_BCHW, rng()) for transform in (luma_flip, hue, saturation))
    for changed in (turned, paler):
        torch.testing.assert_close(changed.mean(1, keepdim=True), grey)
    torch.testing.assert_close(flipped - flipped.mean(1, keepdim=True), rest)
    torch.testing.assert_close(flipped.mean(1, keepdim=True).abs(), grey.abs())
    torch.testing.assert_close(turned.norm(dim=1), x_BCHW.norm(dim=1))
    cosines = (((turned - grey) * rest).sum(1) / rest.square().sum(1)).flatten(1)
    torch.testing.assert_close(cosines, cosines[:, :1].expand_as(cosines))
    assert float(cosines.min()) < -0.9
    factors = ((paler - grey) / rest).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13)])
def test_all_of_it_is_linear_in_the_image_but_for_brightness(shape: tuple[int, int, int]) -> None:
    """So the gradient that G gets through it is exact."""
    every = ("flip", "rotate", "scale", "turn", "stretch", "translate", "contrast", "luma_flip", "hue", "saturation", "cutout")
    module = AdaptiveAugment(every, target=0.6, limit=1.0)
    module.strength.fill_(0.8)
    x_BCHW, way = images(6, *shape).double().requires_grad_(), images(6, *shape, seed=1).double()
    weight = images(6, *shape, seed=2).double()
    (slope,) = torch.autograd.grad((weight * module(x_BCHW, rng())).sum(), x_BCHW)
    with torch.no_grad():
        moved = module(x_BCHW + way, rng()) - module(x_BCHW, rng())
    torch.testing.assert_close((weight * moved).sum(), (slope * way).sum())
    assert slope.abs().sum() > 0


def strengths(make_case: Any, *, steps: int, batch: int, epoch: int, of: int | None = None, sure: bool = True) -> list[float]:
    """p after each step of a run of `of` steps whose D is sure of all real images."""
    family = make_case("gan", "style").build().train()
    scores_B = torch.full((batch,), 1.0 if sure else -1.0)
    found = []
    for step in range(steps):
        progress = step / (of or steps)
        family.observe(Scored(scores_B, scores_B, None, scores_B, scores_B, progress, step, epoch), rng())
        found.append(float(family.adaptive.strength))
    return found


@pytest.mark.parametrize("steps", [100, 600, 4000])
def test_the_strength_can_rise_within_a_run_of_minutes(make_case: Any, steps: int) -> None:
    """In a tenth of the budget from 0 to 1, where 500,000 images are more: what was 0.02 after 300 steps of 32."""
    found = strengths(make_case, steps=steps, batch=32, epoch=1)
    reached = next(step for step, strength in enumerate(found) if strength >= 0.8)
    assert 0.05 * steps < reached <= 0.1 * steps + 2 * BATCHES


def test_the_strength_of_a_long_run_rises_as_in_the_paper(make_case: Any) -> None:
    found = strengths(make_case, steps=400, of=25_000_000 // 64, batch=64, epoch=1)
    assert found[-1] == pytest.approx(396 * 64 / 500_000, rel=1e-3), "the last four have not moved it yet"


def test_the_strength_rests_while_every_image_is_new(make_case: Any) -> None:
    """D cannot have learnt by heart what it has not seen. It may fall: a model that is tuned brings its strength along."""
    assert strengths(make_case, steps=60, batch=32, epoch=0)[-1] == 0
    family = make_case("gan", "style").build().train()
    family.adaptive.strength.fill_(0.5)
    for step in range(BATCHES + 1):
        unsure = -torch.ones(8)
        family.observe(Scored(unsure, unsure, None, unsure, unsure, step / 100, step, 0), rng())
    assert float(family.adaptive.strength) < 0.5


GANS = [("gan", variant) for variant in ("dcgan", "r3gan", "sngan", "style", "wgan-gp")]


def told(real_B: Tensor, fake_B: Tensor) -> Scored:
    """What D said in the middle of a run."""
    x_BCHW = torch.zeros(len(real_B), 1, 8, 8)
    return Scored(x_BCHW, x_BCHW, None, real_B, fake_B, progress=0.5, step=10, epoch=1)


@pytest.mark.parametrize(("family", "variant"), GANS)
def test_every_variant_is_augmented_as_its_discriminator_overfits(make_case: Any, family: str, variant: str) -> None:
    """Up while D tells real images from generated ones, down while it does not; by differences where its scores have no zero."""
    model = make_case(family, variant).build(adaptive=("brightness",)).train()
    sure = told(torch.full((8,), 2.0), torch.full((8,), -2.0))
    for _ in range(2 * BATCHES + 1):
        model.observe(sure, rng())
    grown = float(model.adaptive.strength)
    assert grown > 0
    x_BCHW = images(64, 1, 8, 8)
    assert not torch.equal(model.augment(x_BCHW, rng()), model.augment(x_BCHW, rng(1)))
    unsure = told(torch.linspace(-1, 1, 8), torch.zeros(8))
    for _ in range(2 * BATCHES):
        model.observe(unsure, rng())
    assert float(model.adaptive.strength) < grown
    before = float(model.adaptive.batches)
    model.eval().observe(sure, rng())
    assert float(model.adaptive.batches) == before, "in training alone"


@pytest.mark.parametrize("variant", ["r3gan", "wgan-gp"])
def test_a_number_added_to_all_scores_says_nothing(make_case: Any, variant: str) -> None:
    strengths = []
    for added in (0.0, 100.0):
        model = make_case("gan", variant).build(adaptive=("brightness",)).train()
        for _ in range(2 * BATCHES + 1):
            model.observe(told(torch.linspace(-1, 1, 8) + added, torch.zeros(8) + added), rng())
        strengths.append(float(model.adaptive.strength))
    assert strengths == [0.0, 0.0]


@pytest.mark.parametrize(("family", "variant"), GANS)
def test_without_transformations_nothing_is_drawn_for_them_and_nothing_moves(make_case: Any, family: str, variant: str) -> None:
    model = make_case(family, variant).build(adaptive=(), shift=0.0).train()
    for _ in range(2 * BATCHES + 1):
        model.observe(told(torch.ones(8), -torch.ones(8)), rng())
    assert float(model.adaptive.strength) == 0
    x_BCHW, drawn = images(4, 1, 8, 8), rng()
    assert model.augment(x_BCHW, drawn) is x_BCHW
    assert torch.equal(drawn.get_state(), rng().get_state())


@pytest.mark.parametrize(("family", "variant"), GANS)
def test_the_strength_is_of_a_training_and_no_part_of_what_is_kept(make_case: Any, family: str, variant: str) -> None:
    model, other = (make_case(family, variant).build(adaptive=("brightness",)) for _ in range(2))
    model.adaptive.strength.fill_(0.5)
    kept = model.kept()
    assert not [name for name in kept if name.startswith("adaptive")]
    other.load_state_dict(kept)
    assert float(other.adaptive.strength) == 0, "another training begins with none"
    other.load_state_dict(model.state_dict())
    assert float(other.adaptive.strength) == 0.5, "one that goes on has its own"
