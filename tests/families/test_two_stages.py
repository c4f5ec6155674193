"""A patch discriminator and a distance of Laplacian pyramids beside the squared error of an autoencoder."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor
from torch.nn import functional as F

from components.core.errors import BriefError
from components.core.family import Batch, Family
from components.families import cards, find
from components.families.laplacian import laplacian_distance, laplacian_pyramid
from components.families.patch_discriminator import PatchDiscriminator
from components.families.two_stages import DISCRIMINATOR, ITEMS_MIN, MODEL, TwoStageFamily

NAMES = ["/".join(key) for key in sorted(cards()) if issubclass(find(*key), TwoStageFamily)]
ON = {"adversarial": 0.5, "laplacian": 0.1, "discriminator_width": 8}
EARLY, LEARNT, HEARD, LAST = 0.1, 0.45, 0.6, 1.0  # shares of the first stage: before D, D alone, both; the prior


def built(make_case: Any, name: str, **more: Any) -> tuple[Any, Any]:
    case = make_case(*name.split("/"), side=16)
    return case, case.build(**ON, **more, **({"dropout": 0.0} if "dropout" in case.cls.Config.model_fields else {}))


def at(family: Any, batch: Batch, stage: float, *, turn: str = "") -> Batch:
    """The batch where so much of the first stage is behind."""
    return replace(batch, progress=stage * family.config.autoencoder_share if stage < 1 else 1.0, turn=turn)


def test_every_family_that_trains_an_autoencoder_before_a_prior_is_one() -> None:
    assert {"vae/vq", "autoregressive/vq-transformer", "diffusion/latent", "diffusion/latent-ect"} <= set(NAMES)
    others = {"/".join(key) for key in cards()} - set(NAMES)
    assert not [name for name in others if "autoencoder_share" in find(*name.split("/")).Config.model_fields]


@pytest.mark.parametrize("name", NAMES)
def test_both_are_on_from_128_pixels_on_and_either_can_be_turned(name: str) -> None:
    cls = find(*name.split("/"))
    for side, expected in ((8, (0, 0, 0)), (64, (0, 0, 0)), (128, (0.1, 0.5, ITEMS_MIN)), (256, (0.1, 0.5, ITEMS_MIN))):
        for light in (False, True):
            spec = image_data(channels=3, height=side, width=side)
            config: Any = cls.configure({}, spec, light=light)
            assert (config.laplacian, config.adversarial, config.adversarial_items) == expected
            for key in ("laplacian", "adversarial"):
                assert {getattr(cls.configure({key: value}, spec, light=light), key) for value in (0, 0.7)} == {0, 0.7}
    assert cls.recorded({}).adversarial == cls.recorded({}).laplacian == 0, "an older checkpoint has neither"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("adversarial", -0.5),
        ("adversarial", float("inf")),
        ("laplacian", -1),
        ("adversarial_from", 1.0),
        ("adversarial_items", -1),
        ("discriminator_width", 4),
        ("discriminator_rate", 0),
    ],
)
def test_a_bad_value_is_refused_in_one_line(name: str, key: str, value: float) -> None:
    with pytest.raises(BriefError, match=rf"^override\.config\.{key}: [^\n]*$"):
        find(*name.split("/")).configure({key: value}, image_data(channels=1, height=16, width=16))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (1, 2)])
def test_a_discriminator_of_images_that_are_no_patch_is_refused_in_one_line(height: int, width: int) -> None:
    said = (
        f"override.config.adversarial: for images of {height} x {width} pixels; allowed: 0, or images of 8 pixels a side and more"
    )
    with pytest.raises(BriefError, match=re.escape(said)):
        find("diffusion", "latent").build({"adversarial": 0.5}, image_data(channels=1, height=height, width=width))


@pytest.mark.parametrize("name", NAMES)
def test_each_group_has_a_loss_of_its_own_that_reaches_all_of_it(
    make_case: Any, train_a_little: Callable[..., None], name: str
) -> None:
    case, family = built(make_case, name)
    train_a_little(family, case, steps=1, n=6)
    losses: dict[str, Tensor] = {}
    for stage, turn in product((EARLY, HEARD, LAST), family.turns()):
        losses |= family.losses(at(family, case.batch(6), stage, turn=turn), torch.Generator().manual_seed(1))
    assert set(losses) == set(family.parameter_groups()) >= {DISCRIMINATOR, "autoencoder", "prior"}
    grouped = [id(each) for own in family.parameter_groups().values() for each in own]
    assert sorted(grouped) == sorted(id(each) for each in family.parameters())
    for group, own in family.parameter_groups().items():
        slopes = torch.autograd.grad(losses[group], own, retain_graph=True)
        assert all(bool(slope.isfinite().all() and slope.abs().max() > 0) for slope in slopes), group


@pytest.mark.parametrize("name", NAMES)
def test_the_discriminator_joins_late_and_learns_first(make_case: Any, name: str) -> None:
    case, family = built(make_case, name)
    due = [family.due(at(family, case.batch(2), stage)) for stage in (EARLY, LEARNT, HEARD, LAST)]
    assert due == [(MODEL,), (DISCRIMINATOR, MODEL), (DISCRIMINATOR, MODEL), (MODEL,)]
    assert set(family.losses(at(family, case.batch(2), HEARD), torch.Generator())) == {DISCRIMINATOR, "autoencoder"}
    plain = case.build(adversarial=0.0)
    assert plain.due(case.batch(2)) == ("",)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_training_never_has_it(make_case: Any, name: str) -> None:
    """Where `adversarial_items` are not seen by the time that it would join at."""
    case, family = built(make_case, name, adversarial_items=1000, adversarial_from=0.5)
    enough = 1000 / (0.5 * family.config.autoencoder_share)
    for budget, joins in ((0.99 * enough, False), (1.01 * enough, True)):
        batch = replace(at(family, case.batch(2), HEARD), budget=budget)
        assert (DISCRIMINATOR in family.due(batch)) is joins
    never, scales = (case.build(**ON | more) for more in ({"adversarial_items": 1000}, {"adversarial": 0.0}))
    losses = [
        each.losses(replace(at(each, case.batch(4), HEARD), budget=1.0), torch.Generator().manual_seed(1))["autoencoder"]
        for each in (never, scales)
    ]
    assert torch.equal(*losses)


def test_only_the_first_weights_of_the_discriminator_are_new(make_case: Any) -> None:
    for name in NAMES:
        case, family = built(make_case, name)
        plain = case.build(**ON | {"adversarial": 0.0}, **({"dropout": 0.0} if "dropout" in case.cls.Config.model_fields else {}))
        ours = {key: value for key, value in family.state_dict().items() if not key.startswith("discriminator.")}
        torch.testing.assert_close(ours, dict(plain.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["vae/vq", "diffusion/latent"])
def test_the_decoder_learns_from_it_by_the_slopes_of_the_batch_before(make_case: Any, name: str) -> None:
    """Eq. 7: lambda = w |dL_rec/dW| / (|d score/dW| + 1e-4), W of the decoder's last layer; nothing while D alone learns."""
    case, family = built(make_case, name)
    family.train()
    last = family.autoencoder.decoder[-1].weight

    told: list[float] = []

    def slope(stage: float) -> Tensor:
        batch = at(family, case.batch(6), stage, turn=MODEL)
        loss = family.losses(batch, torch.Generator().manual_seed(1))["autoencoder"]
        told.append(float(loss.detach()))
        return torch.autograd.grad(loss, last)[0]

    family.discriminator.eval()  # no turns of the power iteration: the same scores each time
    if hasattr(family.autoencoder, "quantiser"):
        slope(EARLY)  # places the codebook
        family.autoencoder.quantiser.decay = 1.0
    alone = slope(EARLY)
    assert not family.discriminator.slope_score.any(), "before it joins nothing is measured"
    torch.testing.assert_close(slope(LEARNT), alone)
    both = slope(HEARD) - alone  # -w lambda d score/dW
    assert told[-1] == told[-2], "its value, times a lambda that is another in each step, is not in the loss that is logged"
    discriminator = family.discriminator
    torch.testing.assert_close(both.norm(), 0.5 * discriminator.slope_error.norm(), rtol=1e-2, atol=0)
    torch.testing.assert_close(-both / both.norm(), discriminator.slope_score / discriminator.slope_score.norm())


def test_a_reconstruction_without_detail_is_told_from_images(make_case: Any) -> None:
    """D by itself, after 60 steps of Adam: of images of noise and of their blur, it knows which is which."""
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(image_data(channels=1, height=16, width=16), width=8, last_layer=torch.nn.Conv2d(8, 1, 3))
    optimizer, rng = torch.optim.Adam(discriminator.parameters(), lr=2e-3), torch.Generator().manual_seed(0)

    def images() -> tuple[Tensor, Tensor]:
        x_BCHW = torch.randn(16, 1, 16, 16, generator=rng) / 2
        return x_BCHW, F.avg_pool2d(x_BCHW, 3, stride=1, padding=1)

    for _ in range(60):
        optimizer.zero_grad()
        discriminator.loss(*images()).backward()
        optimizer.step()
    with torch.no_grad():
        real, blurred = (discriminator(x_BCHW).mean((1, 2, 3)) for x_BCHW in images())
    assert float(real.min()) > float(blurred.max())


def test_a_score_is_of_its_patch_and_of_no_other_image() -> None:
    spec = image_data(channels=1, height=96, width=96)
    discriminator = PatchDiscriminator(spec, width=8, last_layer=torch.nn.Conv2d(8, 1, 3)).eval()
    x_BCHW = torch.zeros(2, 1, 96, 96)
    changed = x_BCHW.clone()
    changed[0, :, :8, :8] = 1
    with torch.no_grad():
        moved = (discriminator(changed) - discriminator(x_BCHW)).abs()[:, 0] > 1e-7
    assert moved.shape == (2, 12, 12)
    assert bool(moved[0, 0, 0])
    assert not bool(moved[0, 4:].any() or moved[0, :, 4:].any() or moved[1].any())


def test_the_levels_of_a_pyramid_add_up_to_the_image() -> None:
    x_BCHW = torch.randn(2, 3, 21, 34, generator=torch.Generator().manual_seed(0))
    *levels, least = laplacian_pyramid(x_BCHW)
    assert [tuple(level.shape[2:]) for level in [*levels, least]] == [(21, 34), (11, 17), (6, 9), (3, 5)]
    for level in reversed(levels):
        least = level + F.interpolate(least, size=level.shape[2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(least, x_BCHW)


def test_the_distance_sees_a_blur_more_than_a_shift_in_brightness_of_the_same_square() -> None:
    x_BCHW = torch.randint(0, 2, (4, 1, 32, 32), generator=torch.Generator().manual_seed(0)).float().repeat_interleave(2, 3)
    blurred = F.avg_pool2d(x_BCHW, 3, stride=1, padding=1, count_include_pad=False)
    brighter = x_BCHW + (blurred - x_BCHW).square().mean().sqrt()
    assert float(laplacian_distance(x_BCHW, x_BCHW)) == 0
    assert float(laplacian_distance(x_BCHW, blurred)) > 1.2 * float(laplacian_distance(x_BCHW, brighter))
    torch.testing.assert_close(laplacian_distance(x_BCHW, blurred), laplacian_distance(blurred, x_BCHW))


def test_a_model_is_loaded_with_its_discriminator_and_an_older_one_without(make_case: Any) -> None:
    for name in NAMES:
        _, family = built(make_case, name)
        again: Family = type(family)(type(family).recorded(family.config.model_dump(mode="json")), family.spec)
        again.load_state_dict(family.kept())
        older = {key: value for key, value in family.config.model_dump(mode="json").items() if key not in ADDED}
        plain = type(family)(type(family).recorded(older), family.spec)
        plain.load_state_dict({key: value for key, value in family.kept().items() if not key.startswith("discriminator.")})


ADDED = {"laplacian", "adversarial", "adversarial_from", "adversarial_items", "discriminator_width", "discriminator_rate"}
