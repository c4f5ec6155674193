"""The contract of a family is checked when a class is defined, and its config when it is built."""

from typing import Any, ClassVar

import pytest
import torch
from specs import image_data
from torch import Tensor, nn

from components.core.card import Card
from components.core.errors import BriefError
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput

SPEC = image_data(channels=1, height=4, width=4)
COMMON: dict[str, Any] = {
    "family": "vae",
    "variant": "toy",
    "title": "a toy",
    "modalities": ("image",),
    "likelihood": "none",
    "latent": False,
    "steps": 1,
    "side_max": 8,
    "data_appetite": 1,
    "references": ("none",),
}


def losses(self: Family, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
    return {"model": batch.x.sum()}


def noise_inputs(self: Family) -> tuple[NoiseInput, ...]:
    return (NoiseInput(name="z", shape=(2,)), NoiseInput(name="u", shape=(3,), distribution="uniform"))


def sampler(self: Family, *, steps: int | None = None) -> nn.Module:
    return nn.Identity()


def defined(*without: str, card: Any = None, **more: Any) -> type[Family]:
    body = {"card": card or Card(**COMMON), "Config": FamilyConfig, "losses": losses, "noise_inputs": noise_inputs}
    body |= {"sampler": sampler, **more}
    return type("Toy", (Family,), {key: value for key, value in body.items() if key not in without})  # type: ignore[return-value]


def test_a_complete_family_can_be_built() -> None:
    model = defined().build({"lr_peak": 0.5}, SPEC)
    assert model.config.lr_peak == 0.5
    noise = model.noise(5, torch.Generator().manual_seed(0))
    assert [tuple(x.shape) for x in noise] == [(5, 2), (5, 3)]
    assert all(torch.equal(a, b) for a, b in zip(noise, model.noise(5, torch.Generator().manual_seed(0)), strict=True))
    assert (noise[1] >= 0).all()
    assert (noise[1] < 1).all()


@pytest.mark.parametrize(
    ("without", "more", "line"),
    [
        ("losses", {}, "Toy must implement losses: its card promises them"),
        ("noise_inputs", {}, "Toy must implement noise_inputs"),
        ("sampler", {}, "Toy must implement sampler"),
        ("", {"card": Card(**COMMON | {"likelihood": "bound"})}, "Toy must implement log_prob"),
        ("", {"card": Card(**COMMON | {"latent": True})}, "Toy must implement encode, decode"),
        ("", {"card": Card(**COMMON | {"latent": True}), "encode": losses}, "Toy must implement decode"),
        ("", {"card": COMMON}, "Toy.card must be a Card literal, not dict"),
        ("Config", {}, "Toy.Config must be a subclass of FamilyConfig"),
        ("", {"Config": dict}, "Toy.Config must be a subclass of FamilyConfig"),
    ],
)
def test_a_broken_family_cannot_be_defined(without: str, more: dict[str, Any], line: str) -> None:
    with pytest.raises(TypeError, match=line):
        defined(without, **more)


def test_a_base_without_a_card_stays_abstract() -> None:
    class Base(Family):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Base(FamilyConfig(), SPEC)  # type: ignore[abstract]


def test_a_config_that_is_wrong_is_told_in_one_line() -> None:
    class Config(FamilyConfig):
        width: int = 8

    toy = defined(Config=Config)
    for values, line in (
        ({"widht": 3}, "override.config.widht: Extra inputs are not permitted"),
        ({"width": "wide"}, "override.config.width: Input should be a valid integer"),
        ({"batch_size": 1}, "override.config.batch_size: Input should be greater than or equal to 2 (given: 1)"),
    ):
        with pytest.raises(BriefError) as caught:
            toy.build(values, SPEC)
        assert str(caught.value).startswith(line)
        assert "width" in str(caught.value).partition("allowed: ")[2]
        assert "\n" not in str(caught.value)


def test_conditioning_that_the_card_does_not_promise_is_refused() -> None:
    spec = image_data(channels=1, height=4, width=4, classes=("a", "b"), conditional=True)
    with pytest.raises(BriefError, match="conditioning: class is not something vae/toy can do; allowed: none"):
        defined().build({}, spec)

    class Able:
        card: ClassVar[Card] = Card(**COMMON | {"conditioning": ("none", "class")})

    assert defined(card=Able.card).build({}, spec).spec.conditional
