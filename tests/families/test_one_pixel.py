"""The smallest image there is, one pixel of two channels, with the defaults that a variant has for it: all can make it.

A side of one has no half, no chessboard and no neighbours, and batch or group normalisation sees one value a channel. So networks
are of linear layers over all values, here and up to eight values, and of nothing else above that.
"""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from specs import image_data

from components.core.family import Batch, Family
from components.families import cards, find

SPEC = image_data(channels=2, height=1, width=1)
MOMENTS = (0.0, 1.0)  # both ends of a training in stages
NOTHING_BEFORE = ("autoregressive", "pixelcnn-pp")  # one pixel is one mixture: what it is a function of has no values


def build(name: str) -> Family:
    torch.manual_seed(0)
    return find(*name.split("/")).build({}, SPEC)


def batch(n: int = 8) -> Batch:
    return Batch(torch.randint(0, 256, (n, *SPEC.shape), generator=torch.Generator().manual_seed(0)) / 127.5 - 1)


@pytest.mark.parametrize("name", sorted("/".join(key) for key in cards()))
def test_every_variant_learns_and_draws_one_pixel(name: str) -> None:
    """Each group has a gradient from which it can learn, and other noise gives other points."""
    family = build(name)
    for progress, turn in product(MOMENTS, family.turns()):
        losses = family.losses(replace(batch(), progress=progress, turn=turn), torch.Generator().manual_seed(0))
        for group, loss in losses.items():
            gradients = torch.autograd.grad(loss, family.parameter_groups()[group], retain_graph=True, allow_unused=True)
            assert torch.isfinite(loss)
            assert any(gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients), group
    with torch.no_grad():
        x_BCHW = family.eval().sampler(steps=2 if family.card.family == "diffusion" else None)(
            *family.noise(64, torch.Generator().manual_seed(1))
        )
    assert x_BCHW.shape == (64, *SPEC.shape)
    assert x_BCHW.abs().max() <= 1
    assert float(x_BCHW.std(0).min()) > 0, "noise does not reach both channels"


@pytest.mark.parametrize("name", sorted("/".join(key) for key in cards() if key != NOTHING_BEFORE))
def test_no_weight_meets_padding_alone(name: str) -> None:
    """Of a 3x3 kernel over one pixel eight weights of nine never meet a value, whatever the data: their gradient is zero. What
    a mask hides is less than half.
    """
    family = build(name)
    with torch.no_grad():
        for parameter in family.parameters():  # nothing is zero by the way it begins
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    met = {id(parameter): torch.zeros_like(parameter, dtype=torch.bool) for parameter in family.parameters()}
    for progress, turn in product(MOMENTS, family.turns()):
        losses = family.losses(replace(batch(512), progress=progress, turn=turn), torch.Generator().manual_seed(0))
        for group, loss in losses.items():
            parameters = family.parameter_groups()[group]
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True), strict=True
            ):
                met[id(parameter)] |= torch.zeros_like(parameter, dtype=torch.bool) if gradient is None else gradient != 0
    weights = [met[id(parameter)] for parameter in family.parameters() if parameter.dim() > 1]
    share = sum(int(seen.sum()) for seen in weights) / sum(seen.numel() for seen in weights)
    assert share > 0.5, f"{1 - share:.0%} of the weights never meet a value"


@pytest.mark.parametrize("name", sorted("/".join(key) for key, (card, *_) in cards().items() if "class" in card.conditioning))
@pytest.mark.parametrize("size", [(1, 2, 2), (3, 1, 2)])
def test_a_few_pixels_are_made_too_and_classes_asked_for(name: str, size: tuple[int, int, int]) -> None:
    channels, height, width = size
    spec = image_data(channels=channels, height=height, width=width, classes=("a", "b"), conditional=True)
    torch.manual_seed(0)
    family = find(*name.split("/")).build({}, spec)
    x = torch.rand((4, *size), generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0, 1, 1, 0])
    for progress, turn in product(MOMENTS, family.turns()):
        seen = Batch(x, labels, progress=progress, turn=turn)
        assert all(bool(loss.isfinite()) for loss in family.losses(seen, torch.Generator().manual_seed(0)).values())
    with torch.no_grad():
        sampler = family.eval().sampler(steps=2 if family.card.family == "diffusion" else None)
        assert sampler(*family.noise(4, torch.Generator().manual_seed(1)), labels).shape == (4, *size)


@pytest.mark.parametrize("name", sorted("/".join(key) for key in cards()))
def test_few_values_alone_change_the_network(name: str) -> None:
    """An image of 3x3 pixels keeps its convolutions, and a recipe from before there were linear layers builds what it built."""
    cls = find(*name.split("/"))
    few, more = (cls.configure({}, image_data(channels=1, height=side, width=side)).model_dump() for side in (2, 3))
    assert few["batch_size"] >= 512
    assert more["batch_size"] < 128
    if "dense" in few:
        assert (few["dense"], more["dense"]) == (True, False)
        del few["dense"]
        assert cls.recorded(few).model_dump()["dense"] is False


@pytest.mark.parametrize("name", sorted("/".join(key) for key, (card, _, _) in cards().items() if card.latent))
def test_a_code_has_no_more_numbers_than_the_image(name: str) -> None:
    model: Any = build(name).eval()
    with torch.no_grad():
        z = model.encode(batch().x)
        back_BCHW = model.decode(z)
    assert z.shape[1:].numel() <= 2
    assert back_BCHW.shape == (8, *SPEC.shape)


@pytest.mark.parametrize("variant", ["realnvp", "glow"])
def test_a_flow_couples_the_channels_of_one_pixel(variant: str) -> None:
    """The latent of each value bends with the other: no affine map, which would be all that a chessboard of one place leaves."""
    torch.manual_seed(0)
    flow: Any = find("flow", variant).build({}, SPEC)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))

        def latent(a: float, b: float) -> torch.Tensor:
            return flow.eval().encode(torch.tensor([a, b]).view(1, 2, 1, 1))[0]

        crossed = latent(0.6, 0.6) - latent(-0.6, 0.6) - latent(0.6, -0.6) + latent(-0.6, -0.6)
    assert float(crossed.abs().max()) > 1e-3


def test_a_weight_above_one_buys_no_code_of_few_values_so_they_have_a_capacity() -> None:
    """Of the ring's modes, at best: which of eight is ln 8 nats of code, and a scale of 0.05 in place of 0.5 for two values."""
    few, more = (find("vae", "beta").configure({}, spec) for spec in (SPEC, image_data(channels=1, height=8, width=8)))
    price, gain = more.beta * math.log(8), 2 * math.log(0.5 / 0.05)
    assert price > gain
    assert (few.capacity, more.capacity) == (4.0, None)
    assert few.capacity > math.log(8)


def test_noise_leaves_few_values_apart_and_hides_none_of_them() -> None:
    few, more = (
        find("autoencoder", "denoising").configure({}, spec) for spec in (SPEC, image_data(channels=1, height=8, width=8))
    )
    assert few.noise == pytest.approx(0.1 * SPEC.std)
    assert (few.masked, more.noise, more.masked) == (0, 0.2, 0.1)


def test_the_last_steps_of_few_values_are_short_enough_to_keep_modes_apart() -> None:
    """Of ECT the last level, and of the cascade the steps of its second stage; those of larger images are as they were."""
    larger = image_data(channels=1, height=8, width=8)
    ect = [find("diffusion", "ect").build({}, spec).sampler() for spec in (SPEC, larger)]
    last = [float(sampler.rows_K8[-1, 0]) / (spec.std / 0.5) for sampler, spec in zip(ect, (SPEC, larger), strict=True)]
    assert last == pytest.approx([0.15, 0.4])
    cascade: list[Any] = [find("diffusion", "cascade").build({}, spec).sampler(steps=8) for spec in (SPEC, larger)]
    assert [(len(one.base.rows_K8), len(one.detail.rows_K8)) for one in cascade] == [(15, 15), (15, 7)]
