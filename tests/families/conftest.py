"""Every family that discovery finds, small, on several shapes, with and without classes, and by text where it takes one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from specs import image_data, text_data
from torch import Tensor

from components.core.card import Card
from components.core.family import Batch, Family
from components.core.records import DataSpec
from components.families import cards, find

LARGE = 28
SMALLEST, ODD, ODD_DISCRETE = (8, 8, 1), (9, 13, 3), (5, 7, 3)  # height, width, channels; the last is drawn value by value
CLASSES = ("dark", "middle", "bright")
ONE_EACH = {"autoencoder/plain", "vae/gaussian", "gan/dcgan", "flow/realnvp", "diffusion/edm", "autoregressive/pixelcnn"}
TEXT_FAST, TEXT_SLOW = {"diffusion/edm"}, {"autoregressive/vq-transformer"}
LATER = "diffusion/unclip"  # what it is asked for shows in an embedding, which it has to learn first: test_unclip.py
ONE_MORE = {"vae/vq", "gan/r3gan", "flow/glow", "diffusion/latent", "autoregressive/vq-pixelcnn"}
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
SMALL = {"width": 1, "blocks": 1, "latent": 4, "steps": 2, "depth": 1, "embedding": 8, "prior_blocks": 1, "prior_steps": 5}


@dataclass(frozen=True)
class Case:
    """One family on one shape, with or without classes."""

    cls: type[Family]
    spec: DataSpec

    @property
    def config(self) -> dict[str, Any]:
        """The smallest values that the family's own limits allow for the sizes it has."""
        fields = self.cls.Config.model_fields
        lows = {name: [rule.ge for rule in fields[name].metadata if hasattr(rule, "ge")] for name in SMALL if name in fields}
        return {name: max([SMALL[name], *low]) for name, low in lows.items()}

    def build(self, *, seed: int = 0, **config: Any) -> Family:
        torch.manual_seed(seed)
        return self.cls.build(self.config | config, self.spec)

    def labels(self, n: int) -> Tensor | None:
        return self.asked(torch.arange(n) % len(CLASSES)) if self.spec.conditional else None

    def asked(self, kinds_N: Tensor) -> Tensor:
        """The condition of items of these classes: themselves, or of each a text of its own."""
        if self.spec.classes:
            return kinds_N
        return a_text(len(CLASSES), *self.spec.condition.given_shape)[kinds_N]  # type: ignore[union-attr]

    def images(self, n: int, *, seed: int = 0) -> Tensor:
        """8-bit images in data units, n of them: as bright as their class, with noise."""
        rng = torch.Generator().manual_seed(seed)
        bright_B = (torch.arange(n) % len(CLASSES) - 1.0) * 0.6
        x_BCHW = bright_B.view(-1, 1, 1, 1) + 0.15 * torch.randn(n, *self.spec.shape, generator=rng)
        return ((x_BCHW.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1

    def batch(self, n: int = 6, *, seed: int = 0, progress: float = 1.0) -> Batch:
        return Batch(self.images(n, seed=seed), self.labels(n), progress=progress)

    def inputs(self, n: int, *, seed: int = 0) -> tuple[Tensor, ...]:
        """What the sampler is called with."""
        labels = self.labels(n)
        noise = _announcing(self).noise(n, torch.Generator().manual_seed(seed))
        return noise if labels is None else (*noise, labels)


def a_text(n: int, length: int, features: int) -> Tensor:
    """n texts as an encoder gives them, [n, L, D]: of one to L rows, zeros after them."""
    rows_NLD = torch.randn(n, length, features, generator=torch.Generator().manual_seed(7))
    known_NL = torch.arange(length) <= (torch.arange(n) % length)[:, None]
    return rows_NLD * known_NL[:, :, None]


@lru_cache(maxsize=1)
def _announcing(case: Case) -> Family:
    """Of one case at a time: what its noise is read from."""
    return case.build()


def train(family: Family, case: Case, *, steps: int, rate: float = 2e-3, n: int = 24) -> None:
    """A few plain updates: each group by the gradient of its own loss, in its turn."""
    rng = torch.Generator().manual_seed(0)
    groups, rates = family.parameter_groups(), family.rates()
    optimizers = {name: torch.optim.Adam(own, lr=rate * rates[name], betas=(0.5, 0.9)) for name, own in groups.items()}
    family.train()
    for step in range(steps):
        batch = replace(case.batch(n, seed=step), progress=step / steps, step=step)
        for turn in family.due(batch):
            for name, loss in family.losses(replace(batch, turn=turn), rng).items():
                for parameter, gradient in zip(groups[name], torch.autograd.grad(loss, groups[name]), strict=True):
                    parameter.grad = gradient
                optimizers[name].step()


def _cases() -> list[Any]:
    """Every variant with classes on the smallest images, and without on odd sides; on large ones, slow or nightly; by text."""
    found = []
    for (family, variant), (card, _, _) in sorted(cards().items()):
        kinds = [kind for kind in ("none", "class") if kind in card.conditioning]
        shapes = [(SMALLEST, kinds[-1], ()), (ODD_DISCRETE if card.discrete else ODD, kinds[0], ())]
        shapes += [] if card.discrete else [((LARGE, LARGE, 1), kinds[0], SLOW if f"{family}/{variant}" in ONE_EACH else NIGHTLY)]
        for (height, width, channels), kind, marks in shapes:
            shape = {"channels": channels, "height": height, "width": width}
            spec = image_data(**shape, classes=CLASSES, conditional=kind == "class")
            case = f"{family}/{variant}-{height}x{width}x{channels}-{kind}"
            found.append(pytest.param((family, variant, spec), id=case, marks=marks))
    return found + _text_cases()


def _text_cases() -> list[Any]:
    """Every variant that takes texts, on the smallest images."""
    height, width, channels = SMALLEST
    spec = text_data(channels=channels, height=height, width=width)
    names = sorted(key for key, (card, _, _) in cards().items() if "text" in card.conditioning)
    assert {"/".join(key) for key in names} >= TEXT_FAST | TEXT_SLOW
    marks = {key: () if "/".join(key) in TEXT_FAST else SLOW if "/".join(key) in TEXT_SLOW else NIGHTLY for key in names}
    return [pytest.param((*key, spec), id=f"{'/'.join(key)}-8x8x1-text", marks=marks[key]) for key in names]


@pytest.fixture(params=_text_cases())
def text_case(request: pytest.FixtureRequest) -> Case:
    family, variant, spec = request.param
    return Case(find(family, variant), spec)


@pytest.fixture(params=_cases())
def case(request: pytest.FixtureRequest) -> Case:
    family, variant, spec = request.param
    return Case(find(family, variant), spec)


def _class_cases() -> list[Any]:
    """With classes and of the smallest shape only, for a law that needs training: one of each family in the fast tests, one more
    of a few, which learn in two stages or on codes, in the slow ones."""
    found = [case for case in _cases() if str(case.id).endswith(("8x8x1-class", "8x8x1-text"))]
    found = [case for case in found if "/".join(case.values[0][:2]) != LATER]
    names = {case.id: "/".join(case.values[0][:2]) for case in found}
    assert {name.split("/")[0] for name in ONE_EACH & {*names.values()}} == {name.split("/")[0] for name in names.values()}
    marks = {name: () if name in ONE_EACH else SLOW if name in ONE_MORE else NIGHTLY for name in names.values()}
    return [
        pytest.param(
            *case.values, id=case.id, marks=(case.marks or SLOW) if str(case.id).endswith("text") else marks[names[case.id]]
        )
        for case in found
    ]


@pytest.fixture(params=_class_cases())
def class_case(request: pytest.FixtureRequest) -> Case:
    family, variant, spec = request.param
    return Case(find(family, variant), spec)


def _claiming(claim: Callable[[Card], bool]) -> list[Any]:
    """The cases whose card claims something."""
    known = cards()
    return [case for case in _cases() if claim(known[case.values[0][:2]][0])]


@pytest.fixture(params=_claiming(lambda card: card.likelihood != "none"))
def likelihood_case(request: pytest.FixtureRequest) -> Case:
    family, variant, spec = request.param
    return Case(find(family, variant), spec)


@pytest.fixture(params=_claiming(lambda card: card.latent))
def latent_case(request: pytest.FixtureRequest) -> Case:
    family, variant, spec = request.param
    return Case(find(family, variant), spec)


@pytest.fixture(scope="session")
def make_case() -> Any:
    def make(family: str, variant: str, *, conditional: bool = False, side: int = 8, channels: int = 1) -> Case:
        spec = image_data(channels=channels, height=side, width=side, classes=CLASSES, conditional=conditional)
        return Case(find(family, variant), spec)

    return make


@pytest.fixture(scope="session")
def make_text_case() -> Any:
    def make(family: str, variant: str) -> Case:
        return Case(find(family, variant), text_data(channels=1, height=8, width=8))

    return make


@pytest.fixture(scope="session")
def train_a_little() -> Any:
    return train
