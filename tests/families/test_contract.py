"""The laws of a family, for every family that discovery finds: a new file in components/families is tested here unnamed."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.core.family import Family
from components.core.noise import draw
from components.families import cards, find


def sampled(family: Family, inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        x_BCHW: Tensor = family.sampler().eval()(*inputs)
    return x_BCHW


KNOWN = sorted(cards())


def test_discovery_finds_the_families() -> None:
    assert {("vae", "gaussian"), ("gan", "sngan"), ("diffusion", "edm")} <= set(KNOWN)


MOMENTS = (0.0, 1.0)  # both ends of a training in stages


def every_loss(family: Family, case: Any, *, n: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """The loss of each group at a moment when it learns."""
    losses: dict[str, Tensor] = {}
    for progress, turn in product(MOMENTS, family.turns()):
        rng = torch.Generator().manual_seed(seed + 1)
        found = family.losses(replace(case.batch(n, seed=seed), progress=progress, turn=turn), rng)
        assert found, "no group learns"
        assert all(loss.shape == () and torch.isfinite(loss) for loss in found.values())
        losses |= found
    return losses


def test_a_loss_is_one_finite_scalar_for_each_group(case: Any) -> None:
    family = case.build()
    losses = every_loss(family, case)
    assert set(losses) == set(family.parameter_groups()) == set(family.rates())
    assert all(rate > 0 for rate in family.rates().values())


def test_losses_draw_from_the_given_generator_alone(case: Any) -> None:
    one, two, other = (case.build(dropout=0.0) if "dropout" in case.cls.Config.model_fields else case.build() for _ in range(3))
    torch.manual_seed(5)
    first = one.losses(case.batch(), torch.Generator().manual_seed(1))
    torch.manual_seed(6)
    again = two.losses(case.batch(), torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    untouched = rng.get_state()
    different = other.losses(case.batch(), rng)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drew = not torch.equal(rng.get_state(), untouched)  # a plain autoencoder has nothing to draw
    assert drew == any(not torch.equal(first[name], different[name]) for name in first)


def test_every_parameter_is_in_one_group(case: Any) -> None:
    family = case.build()
    grouped = [id(p) for own in family.parameter_groups().values() for p in own]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) == {id(p) for p in family.parameters()}


def test_a_gradient_reaches_every_parameter(case: Any, train_a_little: Callable[..., None]) -> None:
    """Of its own loss. One update first: a last layer that starts at zero holds all others back in the first step."""
    family = case.build()
    train_a_little(family, case, steps=1, n=6)
    losses = every_loss(family, case, seed=9)
    for name, own in family.parameter_groups().items():
        gradients = torch.autograd.grad(losses[name], own, retain_graph=True, allow_unused=True)
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
        still = [parameter for parameter, gradient in zip(own, gradients, strict=True) if not gradient.abs().max() > 0]
        # But for biases: where both players' scores lie within the hinge, the pulls on the last one cancel exactly.
        assert all(parameter.ndim == 1 for parameter in still)
        assert len(still) <= 1


def test_saved_weights_load_exactly(case: Any, tmp_path: Path) -> None:
    family, other = case.build(seed=1), case.build(seed=2)
    save_file({name: value.contiguous() for name, value in family.state_dict().items()}, tmp_path / "weights.safetensors")
    inputs = case.inputs(3)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(sampled(family.eval(), inputs), sampled(other.eval(), inputs))
    assert all(torch.equal(a, b) for a, b in zip(family.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_config_survives_json(case: Any) -> None:
    family = case.build()
    again = case.cls.build(family.config.model_dump(mode="json"), case.spec)
    assert again.config == family.config


def test_the_sampler_is_deterministic_and_in_data_units(case: Any) -> None:
    family = case.build().eval()
    inputs = case.inputs(3)
    x_BCHW = sampled(family, inputs)
    assert x_BCHW.shape == (3, *case.spec.shape)
    assert x_BCHW.dtype == torch.float32
    assert x_BCHW.abs().max() <= 1
    assert torch.equal(x_BCHW, sampled(family, inputs))
    assert (x_BCHW - sampled(family, case.inputs(3, seed=1))).abs().max() > 1e-3, "noise does not reach the image"


def test_an_item_does_not_depend_on_its_batch(case: Any) -> None:
    family = case.build().eval()
    inputs = case.inputs(4)
    whole = sampled(family, inputs)
    torch.testing.assert_close(sampled(family, tuple(value[2:3] for value in inputs))[0], whole[2], atol=1e-4, rtol=0)
    torch.testing.assert_close(sampled(family, tuple(value.flip(0) for value in inputs)).flip(0), whole, atol=1e-4, rtol=0)


def test_noise_is_seeded_and_as_announced(case: Any) -> None:
    family = case.build()
    noise, again, other = (family.noise(4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    announced = family.noise_inputs()
    assert announced
    assert len({entry.name for entry in announced}) == len(announced)
    assert [tuple(value.shape) for value in noise] == [(4, *entry.shape) for entry in announced]
    assert all(torch.equal(a, b) and not torch.equal(a, c) for a, b, c in zip(noise, again, other, strict=True))
    drawn = draw(announced, [3, 1, 4, 1])
    assert [value.shape for value in drawn.values()] == [tuple(value.shape) for value in noise]


@pytest.mark.parametrize(("family", "variant"), KNOWN)
def test_a_likelihood_is_claimed_where_there_is_one(family: str, variant: str) -> None:
    cls = find(family, variant)
    assert (cls.card.likelihood != "none") == (getattr(cls, "log_prob", None) is not None)


def test_a_likelihood_is_one_finite_number_an_item(likelihood_case: Any) -> None:
    case = likelihood_case
    family = case.build().eval()
    x_BCHW, labels = case.images(5), case.labels(5)
    with torch.no_grad():
        nats_B = family.log_prob(x_BCHW) if labels is None else family.log_prob(x_BCHW, labels)
        again_B = family.log_prob(x_BCHW) if labels is None else family.log_prob(x_BCHW, labels)
    assert nats_B.shape == (5,)
    assert torch.isfinite(nats_B).all()
    assert torch.equal(nats_B, again_B)
    assert (nats_B <= 0).all(), "8-bit images have masses, not densities"


def test_a_latent_space_has_a_way_in_and_out(latent_case: Any) -> None:
    case = latent_case
    family = case.build().eval()
    x_BCHW, labels = case.images(5), () if case.labels(5) is None else (case.labels(5),)
    with torch.no_grad():
        z = family.encode(x_BCHW, *labels)
        back_BCHW = family.decode(z, *labels)
    assert len(z) == 5
    assert z.shape[1:].numel() <= math.prod(case.spec.shape)
    assert back_BCHW.shape == x_BCHW.shape
    assert back_BCHW.abs().max() <= 1


def test_classes_show_after_a_little_training(class_case: Any, train_a_little: Callable[..., None]) -> None:
    """The classes are three brightnesses: after a little training the sampler knows them, from the same noise."""
    unguided = {} if class_case.spec.classes else {"guidance": 1.0}  # as classes are by default
    family = class_case.build(**unguided)
    first = [family.losses(replace(class_case.batch(progress=0.0), turn=turn), torch.Generator()) for turn in family.turns()]
    staged = {name for losses in first for name in losses} < set(family.parameter_groups())
    train_a_little(family, class_case, steps=80 if staged else 40)
    noise = class_case.inputs(12)[:-1]
    dark, middle, bright = (sampled(family.eval(), (*noise, class_case.asked(torch.full((12,), k)))).mean() for k in range(3))
    assert dark + 0.15 < middle < bright - 0.15
