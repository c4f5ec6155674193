"""unCLIP: a dual encoder that learns for a while, a prior and a decoder that learn from it; images can be varied."""

import math
from typing import Any

import pytest
import torch
from specs import image_data, text_data
from torch import Tensor

from components.core.family import Batch
from components.families.diffusion.dual_encoder import DualEncoder
from components.families.diffusion.unclip import Unclip
from components.families.pyramid import PyramidConfig

SMALL = {"width": 16, "widths": (1,), "steps": 3, "embedding": 8, "dual_width": 16, "prior_width": 32, "prior_blocks": 1}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unclip(kind: str = "text", **config: Any) -> Unclip:
    shape = {"channels": 1, "height": 8, "width": 8}
    by_class = {"classes": ("a", "b", "c"), "conditional": kind == "class"}
    torch.manual_seed(0)
    family = Unclip.build(SMALL | config, text_data(**shape) if kind == "text" else image_data(**shape, **by_class))
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(3)))
    assert isinstance(family, Unclip)
    return family.eval()


def asked(kind: str, n: int) -> Tensor | None:
    texts = {"text": torch.randn(n, 4, 8, generator=rng(5)), "class": torch.arange(n) % 3, "none": None}
    return texts[kind]


@pytest.mark.parametrize("kind", ["none", "class", "text"])
def test_the_dual_encoder_rests_after_its_share_and_learns_from_its_own_loss_alone(kind: str) -> None:
    family, x = unclip(kind), torch.randn(6, 1, 8, 8, generator=rng())
    share = family.config.dual_share
    first, then = (family.losses(Batch(x, asked(kind, 6), progress=progress), rng()) for progress in (share - 1e-6, share))
    assert (set(first), set(then)) == ({"dual", "prior", "decoder"}, {"prior", "decoder"})
    groups = family.parameter_groups()
    assert all(gradient is not None for gradient in torch.autograd.grad(first["dual"], groups["dual"], retain_graph=True))
    for loss in (first["prior"], first["decoder"], *then.values()):
        gradients = torch.autograd.grad(loss, groups["dual"], allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in gradients)
    told = [family.stage_progress(progress) for progress in (0.0, share / 2, share, 1.0)]
    assert told == pytest.approx([0, 0.5, 0, 1])


def test_items_of_one_caption_are_no_contrast() -> None:
    """Two captions, four items each: embeddings that know the caption alone have the least loss there is, ln 4."""
    dual = DualEncoder(PyramidConfig(width=16), text_data(channels=1, height=8, width=8), size=2)
    text = torch.randn(2, 4, 8, generator=rng())
    which = torch.arange(8) % 2
    ends = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    dual.of_images = lambda x: ends[which]  # type: ignore[method-assign]
    dual.of_asked = lambda condition: ends[which]  # type: ignore[method-assign]
    with torch.no_grad():
        dual.log_scale.fill_(math.log(50.0))
        alike = float(dual.loss(torch.zeros(8, 1, 8, 8), text[which], rng()))
        apart = float(dual.loss(torch.zeros(8, 1, 8, 8), torch.randn(8, 4, 8, generator=rng(1)), rng()))
    assert alike == pytest.approx(math.log(4), abs=1e-4)
    assert apart == pytest.approx(math.log(4), abs=1e-4), "of eight captions each has its own, and these say which of two"
    dual.of_asked = lambda condition: -ends[which]  # type: ignore[method-assign]
    assert float(dual.loss(torch.zeros(8, 1, 8, 8), text[which], rng())) > 50


def test_pairs_are_found_after_a_little_training() -> None:
    """Of eight images with a caption each, from chance to all."""
    torch.manual_seed(0)
    dual = DualEncoder(PyramidConfig(width=16), text_data(channels=1, height=8, width=8), size=8)
    x, text = torch.randn(8, 1, 8, 8, generator=rng()), torch.randn(8, 4, 8, generator=rng(1))
    optimizer = torch.optim.Adam(dual.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        dual.loss(x, text, rng()).backward()
        optimizer.step()
    with torch.no_grad():
        nearest = (dual.of_images(x) @ dual.of_asked(text).T).argmax(1)
    assert nearest.tolist() == [*range(8)]


def test_the_prior_is_told_nothing_by_an_empty_text() -> None:
    family = unclip()
    full = torch.randn(1, 4, 8, generator=rng())
    assert not family.dual.row(torch.zeros(1, 4, 8)).any()
    assert family.dual.row(full).shape == (1, 1, 8 + 8)
    assert float(family.dual.row(full).square().mean()) == pytest.approx(1, abs=0.6), "numbers of about one deviation"


def test_a_variation_has_the_embedding_of_its_image() -> None:
    """The decoder alone: other noise, another picture of the same; another image, another picture by the same noise."""
    family = unclip("none")
    sampler = family.variations().eval()
    noise, x = torch.randn(2, 1, 8, 8, generator=rng(1)), torch.randn(2, 1, 8, 8, generator=rng(2))
    with torch.no_grad():
        images, again = (sampler(noise, x) for _ in range(2))
        moved, other = sampler(noise.flip(0), x), sampler(noise, x.flip(0))
        z = family.radius * family.dual.of_images(x)
        torch.testing.assert_close(images, family._decoder_sampler(None)(noise, z[:, None]))
    assert torch.equal(images, again)
    assert (images - moved).abs().max() > 1e-3
    assert (images - other).abs().max() > 1e-3
    assert float(z.square().mean()) == pytest.approx(0.25), "a deviation of 0.5"


def test_the_decoder_gets_an_embedding_of_the_length_that_it_learnt() -> None:
    family = unclip("none")
    seen: list[Tensor] = []
    sampler: Any = family.sampler()
    sampler.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    with torch.no_grad():
        sampler(*family.noise(3, rng()))
    torch.testing.assert_close(seen[0].norm(dim=2), torch.full((3, 1), family.radius))


def test_steps_are_those_of_its_card() -> None:
    sampler: Any = Unclip.build({"width": 16}, image_data(channels=1, height=8, width=8)).sampler()
    assert len(sampler.decoder.rows_K8) == Unclip.card.steps


@pytest.mark.nightly
def test_texts_show_after_training(make_text_case: Any, train_a_little: Any) -> None:
    """Of three texts, for dark, middle and bright images, from the same noise."""
    case = make_text_case("diffusion", "unclip")
    family = case.build(guidance=1.0, steps=6)
    train_a_little(family, case, steps=300)
    noise = case.inputs(24)[:-1]
    with torch.no_grad():
        sampler = family.eval().sampler()
        dark, bright = (sampler(*noise, case.asked(torch.full((24,), kind))).mean() for kind in (0, 2))
    assert dark + 0.15 < bright
