"""A product of conditionals is a distribution: it sees no future value, sums to one, and is what the sampler draws from."""

import importlib
import itertools
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor

from components.core.errors import BriefError
from components.families import autoregressive, cards, find
from components.families.autoregressive import gated, masked, pixelcnn_pp, transformer
from components.families.autoregressive.gated import GatedPixelCNN
from components.families.autoregressive.grid import Grid, GridModel, inverse_cdf, to_data_units, to_levels
from components.families.autoregressive.logistics import Mixture, log_mass, outputs, uniform_bias
from components.families.autoregressive.masked import MaskedGrid
from components.families.autoregressive.pixelcnn_pp import LogisticPixelCNN, PixelCNNppConfig
from components.families.autoregressive.transformer import GridTransformer
from components.runtime.progress import listening

KINDS = ("gated", "gated-names", "logistic", "logistic-deep", "masked", "masked-names", "transformer")
VARIANTS = tuple(
    card.variant for card, _, _ in cards().values() if card.family == "autoregressive" and card.likelihood == "exact"
)
ONE_FAST = [each if each == "pixelcnn" else pytest.param(each, marks=pytest.mark.slow) for each in VARIANTS]
CLASSES = 3


def make(kind: str, *, channels: int = 1, height: int = 3, width: int = 4, values: int = 5, classes: int = CLASSES) -> GridModel:
    """A small model none of whose weights is near zero, so that all it can see shows."""
    grid = Grid(channels, height, width, values, classes, ordinal=not kind.endswith("names"))
    torch.manual_seed(0)
    model: GridModel
    if kind.startswith("gated"):
        model = GatedPixelCNN(grid, width=24, blocks=2, kernel=5)
    elif kind.startswith("masked"):
        model = MaskedGrid(grid, width=240, blocks=2)  # of each value some features that no rectifier shuts
    elif kind.startswith("logistic"):
        depth = 3 if kind.endswith("deep") else 1
        model = LogisticPixelCNN(grid, PixelCNNppConfig(width=8, blocks=1, depth=depth, components=3))
    else:
        model = GridTransformer(grid, width=16, blocks=2, heads=2)
    rng = torch.Generator().manual_seed(1)
    size = {"logistic": 0.1, "logistic-deep": 0.05}.get(kind, 0.2)  # a logistic's width is an exponential
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=rng))
    return model.eval()


def grids(model: GridModel, n: int, *, seed: int = 0) -> Tensor:
    grid = model.grid
    shape = (n, grid.channels, grid.height, grid.width)
    return torch.randint(grid.values, shape, generator=torch.Generator().manual_seed(seed))


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 3, 3)], ids=str)
def test_a_value_sees_all_that_is_before_it_and_nothing_after(kind: str, shape: tuple[int, int, int]) -> None:
    """Change one value at a time. Before it nothing moves; the next one does."""
    channels, height, width = shape
    model = make(kind, channels=channels, height=height, width=width)
    values = grids(model, 3)  # in one of them a rectifier may be shut just where the change passes
    order = torch.arange(height * width * channels).view(height, width, channels).permute(2, 0, 1)  # of each value in the product
    reached = torch.zeros(height * width * channels, dtype=torch.int64)
    with torch.no_grad():
        before = model.log_prob(values, labels(3))
        for t in range(height * width * channels):
            changed = torch.where(order == t, (values + 2) % model.grid.values, values)
            moved = (model.log_prob(changed, labels(3)) - before).abs()
            assert moved[:, order < t].sum() < 1.5e-5, f"value {t} is seen too early"
            reached[t] = int((moved[:, order == t + 1] > 1e-5).any())
    inside = torch.ones_like(reached, dtype=torch.bool)
    inside[-1] = False  # nothing is after the last
    near = inside & ((torch.arange(len(reached)) + 1) % (width * channels) != 0)  # the next value is in the same row
    assert reached[near].all(), "the value just before is not seen"


@pytest.mark.parametrize("kind", ["gated", "logistic", "transformer"])
def test_there_is_no_blind_spot(kind: str) -> None:
    """Every pixel above, to the right as to the left, reaches a pixel two rows below (section 2.2 of arXiv:1606.05328)."""
    model = make(kind, height=4, width=5)
    values = grids(model, 1)
    with torch.no_grad():
        before = model.log_prob(values, labels(1))[0, 0, 2, 2]
        for i, j in itertools.product(range(2), range(1, 4)):
            changed = values.clone()
            changed[0, 0, i, j] = (changed[0, 0, i, j] + 2) % 5
            assert model.log_prob(changed, labels(1))[0, 0, 2, 2] != before, f"({i}, {j}) is not seen"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (2, 1, 3, 3), (3, 1, 1, 7)], ids=str)
def test_the_probabilities_of_all_grids_sum_to_one(kind: str, shape: tuple[int, int, int, int]) -> None:
    channels, height, width, values = shape
    model = make(kind, channels=channels, height=height, width=width, values=values)
    every = torch.tensor(list(itertools.product(range(values), repeat=channels * height * width)))
    with torch.no_grad():
        nats = model.log_prob(every.view(-1, channels, height, width), torch.ones(len(every), dtype=torch.int64))
    assert float(nats.flatten(1).sum(1).double().exp().sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("variant", ONE_FAST)
def test_the_masses_of_all_8_bit_images_sum_to_one(variant: str) -> None:
    """Two pixels have 65,536 images."""
    torch.manual_seed(0)
    family: Any = find("autoregressive", variant).build({"width": 32, "blocks": 1}, image_data(channels=1, height=1, width=2))
    levels = torch.cartesian_prod(torch.arange(256), torch.arange(256)).view(-1, 1, 1, 2)
    with torch.no_grad():
        nats = torch.cat([family.eval().log_prob(to_data_units(part)) for part in levels.split(8192)])
    assert float(nats.double().exp().sum()) == pytest.approx(1, abs=1e-4)


def conditionals_when_drawing(model: GridModel, values: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """p of each value by the sampler's own conditionals, in the order of drawing, when these values are drawn: [B, T]."""
    left = iter(values.permute(2, 3, 1, 0).flatten(0, 2))
    chances = []

    def forced(p_BK: Tensor, uniform_B: Tensor) -> Tensor:
        value_B = next(left)
        torch.testing.assert_close(p_BK.sum(1), torch.ones(len(p_BK)), atol=1e-4, rtol=0)
        chances.append(p_BK.gather(1, value_B[:, None])[:, 0])
        return value_B

    with monkeypatch.context() as patch:
        for module in (gated, masked, pixelcnn_pp, transformer):
            patch.setattr(module, "inverse_cdf", forced)
        drawn = model.draw(torch.rand(values.shape, generator=torch.Generator().manual_seed(0)), labels(len(values)))
    assert torch.equal(drawn, values)
    return torch.stack(chances, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 3, 5), (1, 4, 1), (2, 1, 6)], ids=str)
def test_log_prob_is_the_sum_of_the_samplers_conditionals(
    kind: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is drawn value by value, from what the steps before kept, is what the whole network says at once."""
    channels, height, width = shape
    model = make(kind, channels=channels, height=height, width=width)
    values = grids(model, 4)
    with torch.no_grad():
        at_once = model.log_prob(values, labels(4)).permute(0, 2, 3, 1).flatten(1).exp()
    torch.testing.assert_close(conditionals_when_drawing(model, values, monkeypatch), at_once, atol=1e-6, rtol=1e-3)


def test_whoever_listens_is_told_of_each_row_that_is_drawn() -> None:
    told: list[tuple[int, int]] = []
    model = make("gated", height=3)
    noise = torch.rand(grids(model, 2).shape)
    with listening(lambda done, of: told.append((done, of))):
        model.draw(noise, labels(2))
    model.draw(noise, labels(2))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_every_walk_over_a_grid_is_among_those_that_are_held_to_these_laws() -> None:
    """Found by their class, wherever they stand in the package."""
    for module in pkgutil.iter_modules(autoregressive.__path__, f"{autoregressive.__name__}."):
        importlib.import_module(module.name)
    assert {type(make(kind)) for kind in KINDS} == set(GridModel.__subclasses__())


def test_the_transformer_draws_with_its_cache_what_it_draws_without() -> None:
    model = make("transformer", channels=3, height=3, width=3, values=17)
    assert isinstance(model, GridTransformer)
    uniform = torch.rand(6, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    values = torch.zeros(6, 27, dtype=torch.int64)
    with torch.no_grad():
        for t, u_B in enumerate(uniform.permute(2, 3, 1, 0).flatten(0, 2)):
            values[:, t] = inverse_cdf(model.logits_of(values, labels(6))[:, t].softmax(1), u_B)
        cached = model.draw(uniform, labels(6))
    assert torch.equal(cached.permute(0, 2, 3, 1).flatten(1), values)


@pytest.mark.parametrize("kind", KINDS)
def test_the_frequencies_of_samples_are_the_probabilities(kind: str) -> None:
    """81 grids, 10,000 draws: a chi-square of 80 degrees stays below its 1e-6 tail."""
    model = make(kind, height=2, width=2, values=3)
    n = 10_000
    uniform = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(3))
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 1, 2, 2)
    chosen = torch.ones(n, dtype=torch.int64)
    with torch.no_grad():
        drawn = model.draw(uniform, chosen)
        p = model.log_prob(every, chosen[:81]).flatten(1).sum(1).double().exp()
    place = torch.tensor([27, 9, 3, 1])
    seen = torch.bincount((drawn.flatten(1) * place).sum(1), minlength=81)
    often = p * n >= 5
    rest = torch.tensor([float(p[~often].sum()), float(seen[~often].sum())])
    chi = float(((seen - p * n)[often] ** 2 / (p * n)[often]).sum())
    assert abs(rest[1] - rest[0] * n) <= 5 * math.sqrt(rest[0] * n + 1)
    assert chi < 165
    assert int(often.sum()) > 20, "a distribution on a few grids tests little"


def test_the_inverse_of_a_cumulative_distribution() -> None:
    p = torch.tensor([0.0, 0.5, 0.0, 0.25, 0.25, 0.0])
    u = torch.tensor([0.0, 0.25, 0.4999, 0.5, 0.74, 0.75, 1 - 2**-24])
    assert inverse_cdf(p.expand(7, 6), u).tolist() == [1, 1, 1, 3, 3, 4, 4]


def test_levels_and_data_units_are_inverse() -> None:
    levels = torch.arange(256)
    x = to_data_units(levels)
    assert (x[0], x[-1]) == (-1, 1)
    assert torch.equal(to_levels(x), levels)
    assert torch.equal(to_levels(levels.float() / 127.5 - 1), levels)


@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.5])
@pytest.mark.parametrize("mean", [-1.4, -0.98, 0.37, 1.2])
def test_a_discretised_logistic_sums_to_one_over_256_levels(mean: float, log_scale: float) -> None:
    log_masses = log_mass(to_data_units(torch.arange(256)), torch.tensor(mean), torch.tensor(log_scale))
    assert float(log_masses.exp().sum()) == pytest.approx(1, abs=1e-4)
    assert (log_masses <= 1e-6).all()
    edges = to_data_units(torch.arange(255)).double() + 1 / 255
    cdf = torch.sigmoid((edges - mean) / math.exp(log_scale))
    masses = torch.diff(cdf, prepend=torch.zeros(1).double(), append=torch.ones(1).double())
    torch.testing.assert_close(log_masses.exp(), masses.float(), atol=1e-5, rtol=1e-3)


def test_a_mixture_is_the_papers_product_over_channels() -> None:
    """Equation 3 spelt out: sum_m pi_m prod_c P(x_c | mean + couplings x_before), against the product of conditionals."""
    rng = torch.Generator().manual_seed(0)
    numbers = torch.randn(5, outputs(3, 4), generator=rng)
    mixture = Mixture.of(numbers, channels=3, components=4)
    levels = torch.randint(256, (5, 3), generator=rng)
    r, g, b = to_data_units(levels).unbind(-1)
    alpha, beta, gamma = mixture.couplings.unbind(-1)
    red, green, blue = mixture.means.unbind(-1)
    green = green + alpha * r[:, None]
    blue = blue + beta * r[:, None] + gamma * g[:, None]
    joint = mixture.log_weights
    for channel, (value, mean) in enumerate(((r, red), (g, green), (b, blue))):
        joint = joint + log_mass(value[:, None], mean, mixture.log_scales[..., channel])
    torch.testing.assert_close(mixture.log_prob(levels).sum(-1), torch.logsumexp(joint, -1))
    for channel in range(3):
        masses = mixture.masses(levels, channel)
        torch.testing.assert_close(masses.sum(-1), torch.ones(5))
        chosen = masses.gather(1, levels[:, channel, None])[:, 0]
        torch.testing.assert_close(chosen, mixture.log_prob(levels)[:, channel].exp(), atol=1e-6, rtol=1e-4)


def test_a_mixture_starts_out_near_uniform() -> None:
    mixture = Mixture.of(uniform_bias(1, 10), channels=1, components=10)
    masses = mixture.masses(torch.zeros(1, dtype=torch.int64), 0)
    assert float(-(masses * masses.log2()).sum()) > 7.5


@pytest.mark.parametrize("variant", ONE_FAST)
def test_bits_a_dimension_fall_with_training(variant: str, make_case: Any, train_a_little: Callable[..., None]) -> None:
    """Images of a class are its brightness and noise of deviation 0.15: about 6.3 bits a value, of 8 before training."""
    case = make_case("autoregressive", variant, conditional=True, side=4)
    family = case.build(dropout=0.0)

    def bits() -> float:
        with torch.no_grad():
            nats_B = family.eval().log_prob(case.images(60, seed=999), case.labels(60))
        return float(-nats_B.mean()) / (16 * math.log(2))

    before = bits()
    train_a_little(family, case, steps=60, rate=1e-2)
    assert before > 7.2
    assert 5.8 < bits() < before - 0.7


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_the_likelihood(variant: str, make_case: Any) -> None:
    case = make_case("autoregressive", variant)
    family = case.build(dropout=0.0)
    with torch.no_grad():
        loss = float(family.losses(case.batch(), torch.Generator())["model"])
        nats = float(family.log_prob(case.images(6)).mean())
    assert loss == pytest.approx(-nats / 64, rel=1e-5)


@pytest.mark.parametrize(("variant", "more"), [("image-transformer", {"width": 32}), ("vq-transformer", {"prior_width": 32})])
def test_heads_that_do_not_divide_the_width_are_refused(make_case: Any, variant: str, more: dict[str, int]) -> None:
    with pytest.raises(BriefError, match=r"override.config.heads: 3 heads for a width of \d+; allowed: a divisor of the width"):
        make_case("autoregressive", variant).build(heads=3, **more)
