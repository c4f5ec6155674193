"""The game that every adversarial variant plays: turns, looking ahead, and what the critic may know of the batch."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor, nn

from components.families import cards, find
from components.families.gan.adversarial import Adversarial

VARIANTS = sorted(variant for family, variant in cards() if family == "gan" and issubclass(find(family, variant), Adversarial))


class Slope(nn.Module):
    """D(x) = a x, of the first pixel."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        return self.a * x_BCHW[:, 0, 0, 0]


class Constant(nn.Module):
    """G(z) = one value everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, z_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        return self.value.expand(len(z_BZ), 1, 8, 8)


def test_the_game_has_its_variants() -> None:
    assert {"dcgan", "r3gan", "sngan", "style", "wgan-gp"} <= set(VARIANTS)


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_generator_learns_when_it_is_its_turn(make_case: Any, variant: str, turns: int) -> None:
    case = make_case("gan", variant)
    family = case.build(critic_steps=turns)
    for step in range(7):
        losses = family.losses(replace(case.batch(4), step=step), torch.Generator().manual_seed(step))
        assert [*losses] == ["discriminator", "generator"][: 2 if step % turns == turns - 1 else 1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_player_moves_by_its_own_draw_of_noise(make_case: Any, variant: str) -> None:
    """As in the papers: G is judged by other images than those that D has just learnt from."""
    case = make_case("gan", variant)
    family, drawn = case.build(), []
    generate = family.generate
    family.generate = lambda n, labels_B, rng: drawn.append(generate(n, labels_B, rng)) or drawn[-1]
    rng = torch.Generator().manual_seed(0)
    for turn in family.turns():
        family.losses(replace(case.batch(4), turn=turn), rng)
    assert [x_BCHW.requires_grad for x_BCHW in drawn] == [False, True]
    assert not torch.equal(*drawn)


def test_the_critics_of_the_papers_move_as_often_as_there(make_case: Any) -> None:
    """But on small images and on a CPU, where a run is too short for five steps of D to one of G."""
    large, small = image_data(channels=3, height=64, width=64), image_data(channels=1, height=28, width=28)
    papers = {"dcgan": 1, "r3gan": 1, "sngan": 5, "style": 1, "wgan-gp": 5}
    for variant, steps in papers.items():
        configs = [find("gan", variant).configure({}, spec, light=light) for spec, light in ((large, False), (small, True))]
        assert configs[0].critic_steps == steps
        assert configs[0].discriminator_rate == 1
        assert configs[1].critic_steps <= 2


@pytest.mark.parametrize("variant", ["r3gan", "wgan-gp"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_penalised_critic_scores_each_image_on_its_own(make_case: Any, variant: str, conditional: bool) -> None:
    """Its gradient is meant to be that of one score by one image: no normalisation over the batch."""
    case = make_case("gan", variant, conditional=conditional)
    critic, x_BCHW, labels_B = case.build().discriminator.train(), case.images(6), case.labels(6)
    whole_B = critic(x_BCHW, labels_B)
    alone = [critic(x_BCHW[i : i + 1], None if labels_B is None else labels_B[i : i + 1]) for i in range(6)]
    assert torch.allclose(whole_B, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("option", [{"batch_deviation": True}, {"minibatch_kernels": 3}])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_critic_can_be_shown_the_spread_of_its_batch(make_case: Any, variant: str, option: dict[str, Any]) -> None:
    """In evaluation mode nothing else couples the images of a batch."""
    case = make_case("gan", variant)
    x_BCHW = case.images(6)
    for shown in (False, True):
        critic = case.build(**({"batch_deviation": False} | (option if shown else {}))).discriminator.eval()
        with torch.no_grad():
            alike = torch.allclose(critic(x_BCHW, None)[:1], critic(x_BCHW[:1].expand(6, -1, -1, -1), None)[:1], atol=1e-6)
        assert alike is not shown


def test_the_generator_looks_one_step_ahead_by_hand(make_case: Any) -> None:
    """With D(x) = a x, L_D = a (g - r) + 10 (|a| - 1)^2 and L_G = -a' g where a' = a - h dL_D/da:
    dL_G/dg = -a + h (2 g - r + 20 (a - 1))."""
    a, g, r, h = 0.7, 0.4, -0.2, 0.25
    case = make_case("gan", "wgan-gp")
    slopes = []
    for unroll in (0, 1):
        family = case.build(unroll=unroll, unroll_rate=h, shift=0.0)
        family.discriminator, family.generator = Slope(a), Constant(g)
        batch = type(case.batch())(torch.full((3, 1, 8, 8), r), turn="generator")
        loss = family.losses(batch, torch.Generator().manual_seed(0))["generator"]
        slopes.append(float(torch.autograd.grad(loss, family.generator.value)[0]))
    assert slopes == pytest.approx([-a, -a + h * (2 * g - r + 20 * (a - 1))])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_generator_looks_ahead_past_every_penalty(make_case: Any, variant: str) -> None:
    """What D is moved by when G looks ahead is what D learns by: after one step, the same weights."""
    family = make_case("gan", variant).build(unroll=2, unroll_rate=0.01).train()
    family.penalty = lambda scored, rng: 3.0 * scored.real_B.square().mean()  # one that all variants can have
    batch = replace(make_case("gan", variant).batch(4), turn="generator")
    ahead = family.losses(batch, torch.Generator().manual_seed(0))["generator"]
    family.penalty = lambda scored, rng: None
    assert not torch.equal(ahead, family.losses(batch, torch.Generator().manual_seed(0))["generator"])


@pytest.mark.parametrize("variant", ["dcgan", "sngan", "r3gan"])
def test_looking_ahead_leaves_the_critic_where_it_is(make_case: Any, variant: str) -> None:
    case = make_case("gan", variant)
    family, plain = (case.build(unroll=unroll, critic_steps=1) for unroll in (2, 0))
    before = [parameter.clone() for parameter in family.parameters()]
    losses, ones = (each.losses(case.batch(), torch.Generator().manual_seed(0)) for each in (family, plain))
    assert all(torch.equal(old, new) for old, new in zip(before, family.parameters(), strict=True))
    assert torch.equal(losses["discriminator"], ones["discriminator"])
    assert not torch.equal(losses["generator"], ones["generator"])
    for name, own in family.parameter_groups().items():
        assert all(torch.isfinite(slope).all() for slope in torch.autograd.grad(losses[name], own, retain_graph=True))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("variant", ["dcgan", "sngan", "wgan-gp"])
def test_batch_normalisation_draws_with_the_moments_of_its_own_weights(make_case: Any, variant: str, conditional: bool) -> None:
    """Standing statistics: what G makes in evaluation is what it would make of a large batch in training."""
    case = make_case("gan", variant, conditional=conditional)
    family = case.build().eval()
    norms = [layer for layer in family.modules() if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None]
    for norm in norms:
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(0.1)
    with torch.no_grad():
        family.calibrate(case.batch(60, seed=seed) for seed in range(99))
        assert not any(layer.training for layer in family.modules())
        assert {norm.momentum for norm in norms} == {0.1}
        rng = torch.Generator().manual_seed(5)
        inputs = (*family.noise(600, rng), *([case.labels(600)] if conditional else []))
        drawn = family.sampler()(*inputs)
        same_batch = family.generator.train()(*inputs)
    assert norms
    assert float((drawn - same_batch).abs().mean()) < 0.1 * float(same_batch.std())
