"""What a text is to a family: it matters, nothing but its rows does, it may be empty, and what is unwanted steers away."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from specs import image_data, text_data
from torch import Tensor

from components.core.errors import BriefError
from components.core.family import Batch
from components.families import cards, find
from components.families.diffusion.network import Guided
from components.families.texts import TEXT_GUIDANCE, hide, mean_row, with_start

BY_TEXT = sorted(key for key, (card, _, _) in cards().items() if "text" in card.conditioning)
STEERED = sorted(key for key, (card, _, _) in cards().items() if card.steers)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*known: int, length: int = 4, features: int = 8, seed: int = 0) -> Tensor:
    """Texts of so many rows each, zeros after them."""
    text = torch.randn(len(known), length, features, generator=rng(seed))
    return text * (torch.arange(length) < torch.tensor(known)[:, None])[:, :, None]


def awake(case: Any, **config: Any) -> Any:
    """A model none of whose weights is at its start."""
    family = case.build(**config).eval()
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(3)))
    return family


def drawn(family: Any, text: Tensor, *, seed: int = 0) -> Tensor:
    with torch.no_grad():
        x_BCHW: Tensor = family.sampler()(
            *(each[:1].expand(len(text), *each.shape[1:]) for each in family.noise(1, rng(seed))), text
        )
    return x_BCHW


def test_every_variant_by_text_is_here() -> None:
    names = ("edm", "ect", "latent", "latent-ect", "cascade", "unclip", "ldm", "lcm", "mmdit", "mmdit-lcm")
    assert {*BY_TEXT} == {("diffusion", name) for name in names} | {("autoregressive", "vq-transformer")}
    assert {*STEERED} == {key for key in BY_TEXT if not cards()[key][0].distils}, "a student has its guidance within"


def test_another_text_is_another_image(text_case: Any) -> None:
    one, other, again = drawn(awake(text_case), torch.cat([rows(2), rows(2, seed=1), rows(2)]))
    assert (one - other).abs().max() > 1e-3
    torch.testing.assert_close(one, again, atol=1e-5, rtol=0)


def test_an_empty_text_is_steered_nowhere(text_case: Any) -> None:
    """Under any guidance it is what is drawn without one."""
    fields = text_case.cls.Config.model_fields
    weights = (1.0, 4.0) if text_case.cls.card.steers else (1.0,)
    empty, full = rows(0), rows(3)
    images = [drawn(awake(text_case, guidance=weight), empty) for weight in weights]
    assert "guidance" in fields
    assert all(torch.allclose(images[0], image, atol=1e-3) for image in images)
    assert (images[0] - drawn(awake(text_case, guidance=1.0), full)).abs().max() > 1e-3


def test_padding_changes_nothing(text_case: Any) -> None:
    longer = replace(text_case, spec=text_data(channels=1, height=8, width=8, length=7))
    short, long = awake(text_case), awake(longer)
    long.load_state_dict(short.state_dict())
    text = rows(1, 3, 4)
    torch.testing.assert_close(drawn(long, torch.nn.functional.pad(text, (0, 0, 0, 3))), drawn(short, text), atol=1e-3, rtol=0)


def test_a_row_is_read_whatever_its_scale() -> None:
    text = rows(1, 3)
    for scale in (0.1, 30.0):
        torch.testing.assert_close(mean_row(scale * text), mean_row(text), atol=5e-3, rtol=0)
    read, known = with_start(text, torch.zeros(8))
    assert known.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
    assert not read[0, 2:].any()
    assert not mean_row(rows(0)).any()


@pytest.mark.parametrize("key", STEERED, ids="/".join)
def test_texts_are_guided_by_default_and_classes_are_not(key: tuple[str, str]) -> None:
    shape = {"channels": 1, "height": 8, "width": 8}
    card, config = cards()[key][0], find(*key).Config
    assert config.defaults(text_data(**shape))["guidance"] == TEXT_GUIDANCE != 1
    assert config.model_validate(config.defaults(image_data(**shape, classes=("a", "b"), conditional=True))).guidance == 1
    assert [card.takes_negative({}), card.takes_negative({"guidance": 1.0})] == [True, False]
    assert not cards()["diffusion", "ect"][0].takes_negative({})


def steered(case: Any) -> Any:
    """The same, told what is unwanted."""
    return replace(case, spec=text_data(channels=1, height=8, width=8, negative=True))


def test_what_is_unwanted_stands_in_the_place_of_none(text_case: Any) -> None:
    if not text_case.cls.card.steers:
        with pytest.raises(BriefError, match="guidance: 1 for a model that is told what is unwanted"):
            steered(text_case).build()
        return
    plain, told = awake(text_case), awake(steered(text_case))
    told.load_state_dict(plain.state_dict())
    text, other = rows(2), rows(3, seed=1)
    alone = drawn(plain, text)
    torch.testing.assert_close(drawn(told, torch.stack([text, torch.zeros_like(text)], dim=1)), alone, atol=1e-5, rtol=0)
    assert (drawn(told, torch.stack([text, other], dim=1)) - alone).abs().max() > 1e-3
    with pytest.raises(BriefError, match="guidance: 1 for a model that is told what is unwanted"):
        steered(text_case).build(guidance=1.0)


def test_guidance_is_the_linear_extrapolation_from_what_is_unwanted(make_text_case: Any) -> None:
    denoiser = awake(make_text_case("diffusion", "edm")).denoiser
    x, time, text, other = torch.randn(3, 1, 8, 8, generator=rng()), torch.full((3,), 5.0), rows(1, 2, 4), rows(4, 1, 2, seed=1)
    guided = Guided(denoiser, weight=2.5, none=0)
    with torch.no_grad():
        own, none, unlike = (denoiser(x, time, each) for each in (text, torch.zeros_like(text), other))
        torch.testing.assert_close(guided(x, time, text), none + 2.5 * (own - none), atol=1e-4, rtol=1e-4)
        both = torch.stack([text, other], dim=1)
        torch.testing.assert_close(guided(x, time, both), unlike + 2.5 * (own - unlike), atol=1e-4, rtol=1e-4)


def test_guidance_of_one_costs_one_pass(make_text_case: Any) -> None:
    case = make_text_case("diffusion", "edm")
    for weight, items in ((1.0, 3), (2.0, 6)):
        family, seen = awake(case, guidance=weight), []
        family.denoiser.net.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(len(given[0])))
        drawn(family, rows(1, 2, 3))
        assert {*seen} == {items}


def test_a_share_of_texts_is_hidden_whatever_the_guidance(make_text_case: Any) -> None:
    case = make_text_case("diffusion", "edm")
    text = rows(3).expand(4000, -1, -1)
    for given in (text, torch.stack([text, -text], dim=1)):
        shown = case.build(guidance=1.0, label_dropout=0.25).denoiser.training_labels(given, rng())
        hidden = ~shown.flatten(1).any(1)
        assert float(hidden.float().mean()) == pytest.approx(0.25, abs=0.02)
        assert torch.equal(shown[~hidden], text[~hidden])
    assert torch.equal(hide(torch.tensor([0, 1]), torch.tensor([True, False]), none=9), torch.tensor([9, 1]))


def test_what_is_unwanted_is_left(make_text_case: Any, train_a_little: Any) -> None:
    """Two texts, of dark and of bright images: whoever wants neither and is to be unlike the bright one draws darker."""
    case = steered(make_text_case("diffusion", "edm"))
    family = case.build(guidance=3.0, label_dropout=0.3)
    train_a_little(family, case, steps=50)
    nothing = torch.zeros(8, 4, 8)
    dark, bright = (case.asked(torch.full((8,), kind)) for kind in (0, 2))
    unlike_bright, unlike_dark = (
        drawn(family.eval(), torch.stack([nothing, unwanted], dim=1)).mean() for unwanted in (bright, dark)
    )
    assert unlike_bright + 0.15 < unlike_dark


def test_augmented_images_are_asked_for_by_text(make_text_case: Any) -> None:
    family = awake(make_text_case("diffusion", "edm"), augment=0.3)
    losses = family.losses(Batch(torch.randn(4, 1, 8, 8, generator=rng()), rows(1, 2, 3, 4)), rng())
    assert torch.isfinite(losses["model"])
    assert drawn(family, rows(1, 2)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("variant", ["edm", "unclip"])
def test_items_of_few_values_are_asked_for_by_the_mean_of_the_rows(variant: str) -> None:
    spec = text_data(channels=2, height=1, width=1)
    torch.manual_seed(0)
    family: Any = find("diffusion", variant).build({"width": 16, "blocks": 1}, spec)
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(3)))
    assert family.config.dense
    one, other = drawn(family.eval(), torch.cat([rows(2), rows(2, seed=1)]))
    assert (one - other).abs().max() > 1e-4


def test_what_is_wrong_is_said_in_one_line() -> None:
    shape = {"channels": 1, "height": 8, "width": 8}
    for key, spec, config, message in (
        (("gan", "sngan"), text_data(**shape), {}, "conditioning: text is not something gan/sngan can do"),
        (("diffusion", "ect"), text_data(**shape), {"guidance": 2.0}, "guidance: 2.0 for a model of few steps"),
        (("autoregressive", "vq-transformer"), image_data(**shape), {"guidance": 2.0}, "guidance: 2 for vq-transformer"),
    ):
        with pytest.raises(BriefError, match=message) as caught:
            find(*key).build(config, spec)
        assert "\n" not in str(caught.value)
