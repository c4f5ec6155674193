"""The equations of the adversarial losses and penalties by hand, on critics whose gradients are known."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor, nn
from torch.nn import functional as F

from components.families import find
from components.families.gan.penalties import one_centred, squared_norm, zero_centred
from components.families.gan.r3gan import gamma_for

REAL, FAKE = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.25, -0.5])


class Linear(nn.Module):
    """D(x) = <w, x> + b, with a gradient of norm `norm` everywhere."""

    def __init__(self, shape: tuple[int, ...], *, norm: float, bias: float = 0.0) -> None:
        super().__init__()
        w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        self.w = nn.Parameter(norm * w / w.norm())
        self.bias = bias
        self.seen: list[Tensor] = []

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        self.seen.append(x_BCHW.detach())
        return (self.w * x_BCHW).sum((1, 2, 3)) + self.bias


class Plus(nn.Module):
    """Another critic and a constant."""

    def __init__(self, critic: nn.Module, constant: float) -> None:
        super().__init__()
        self.critic, self.constant = critic, constant

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        score_B: Tensor = self.critic(x_BCHW, labels_B) + self.constant
        return score_B


def images(n: int = 5, *, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, 3, 4, generator=torch.Generator().manual_seed(seed), requires_grad=True)


@pytest.mark.parametrize("norm", [0.3, 1.0, 2.5])
def test_the_penalties_of_a_linear_critic(norm: float) -> None:
    critic, x_BCHW = Linear((2, 3, 4), norm=norm), images()
    score_B = critic(x_BCHW, None)
    assert torch.allclose(squared_norm(score_B, x_BCHW), torch.full((5,), norm**2))
    assert float(zero_centred(score_B, x_BCHW).detach()) == pytest.approx(norm**2 / 2, rel=1e-5)
    penalty = one_centred(score_B, x_BCHW)
    assert float(penalty.detach()) == pytest.approx((norm - 1) ** 2, abs=1e-5)
    (slope,) = torch.autograd.grad(penalty, critic.w)  # the penalty is itself a loss: 2 (|w| - 1) w / |w|
    assert torch.allclose(slope, 2 * (norm - 1) * critic.w / norm, atol=1e-5)


def test_a_zero_centred_penalty_of_a_known_function() -> None:
    """D(x) = |x|^2 / 2 has the gradient x, so R1 is E|x|^2 / 2, and its own gradient is x / B."""
    x_BCHW = images()
    penalty = zero_centred(x_BCHW.square().sum((1, 2, 3)) / 2, x_BCHW)
    assert torch.allclose(penalty, x_BCHW.square().sum() / 5 / 2)
    (slope,) = torch.autograd.grad(penalty, x_BCHW)
    assert torch.allclose(slope, x_BCHW / 5)


def test_a_flat_critic_has_a_finite_penalty() -> None:
    x_BCHW, w = images(), torch.zeros(2, 3, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(one_centred((w * x_BCHW).sum((1, 2, 3)), x_BCHW), w)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_wgan_gp_penalises_the_gradient_between_real_and_generated(make_case: Any, weight: float) -> None:
    case = make_case("gan", "wgan-gp")
    family = case.build(penalty_weight=weight, shift=0.0)
    family.discriminator = Linear(case.spec.shape, norm=1.5)
    losses = family.losses(replace(case.batch(6), turn="discriminator"), torch.Generator().manual_seed(0))
    real, fake, between = family.discriminator.seen
    wanted = family.discriminator(fake, None).mean() - family.discriminator(real, None).mean() + weight * 0.25
    assert float(losses["discriminator"].detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    share = (between - fake) / (real - fake)  # one number an image, between 0 and 1
    assert torch.allclose(share, share.mean((1, 2, 3), keepdim=True).expand_as(share), atol=1e-2)
    assert len(share.mean((1, 2, 3)).round(decimals=2).unique()) > 3
    assert ((share > -1e-2) & (share < 1 + 1e-2)).all()


def test_wgan_losses_by_hand(make_case: Any) -> None:
    family = make_case("gan", "wgan-gp").build()
    assert family.generator_loss(REAL, FAKE) == -FAKE.mean()
    assert family.discriminator_loss(REAL, FAKE) == FAKE.mean() - REAL.mean()


def test_dcgan_losses_are_cross_entropies(make_case: Any) -> None:
    family = make_case("gan", "dcgan").build()
    ones, zeros = torch.ones(3), torch.zeros(3)
    cross = F.binary_cross_entropy_with_logits
    assert torch.allclose(family.generator_loss(REAL, FAKE), cross(FAKE, ones))
    assert torch.allclose(family.discriminator_loss(REAL, FAKE), cross(REAL, ones) + cross(FAKE, zeros))


def test_the_relativistic_loss_by_hand(make_case: Any) -> None:
    family = make_case("gan", "r3gan").build()
    pairs = [(2.0, -3.0), (0.5, 0.25), (-1.0, -0.5)]
    assert float(family.discriminator_loss(REAL, FAKE)) == pytest.approx(
        sum(math.log(1 + math.exp(-(real - fake))) for real, fake in pairs) / 3, rel=1e-5
    )
    assert float(family.generator_loss(REAL, FAKE)) == pytest.approx(
        sum(math.log(1 + math.exp(real - fake)) for real, fake in pairs) / 3, rel=1e-5
    )
    assert torch.equal(family.generator_loss(REAL, FAKE), family.discriminator_loss(FAKE, REAL))


def test_the_relativistic_losses_do_not_see_a_constant_in_the_critic(make_case: Any) -> None:
    case = make_case("gan", "r3gan", conditional=True)
    family = case.build()
    found = []
    for constant in (0.0, 7.0):
        family.discriminator = Plus(family.discriminator, constant)
        losses = family.losses(case.batch(6), torch.Generator().manual_seed(0))
        found.append(
            [losses["generator"], *torch.autograd.grad(losses["discriminator"], family.parameter_groups()["discriminator"])]
        )
    for plain, moved in zip(*found, strict=True):
        assert torch.allclose(plain, moved, atol=1e-5)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_r3gan_penalises_both_gradients_and_less_at_the_end(make_case: Any, progress: float) -> None:
    case = make_case("gan", "r3gan")
    family = case.build(gamma=0.2, gamma_end=0.1, shift=0.0)
    family.discriminator = Linear(case.spec.shape, norm=1.5, bias=3.0)
    batch = replace(case.batch(6), progress=progress, turn="discriminator")
    losses = family.losses(batch, torch.Generator().manual_seed(0))
    real, fake = family.discriminator.seen
    real_B, fake_B = family.discriminator(real, None), family.discriminator(fake, None)
    gamma = 0.2 * {0.0: 1.0, 0.5: 0.55, 1.0: 0.1}[progress]
    wanted = F.softplus(fake_B - real_B).mean() + gamma * (1.5**2 / 2 + 1.5**2 / 2)
    assert float(losses["discriminator"].detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)


def test_r3gan_takes_the_gamma_of_its_paper_for_the_resolution() -> None:
    """CIFAR-10 and ImageNet at 32 pixels, FFHQ and ImageNet at 64, FFHQ at 256; a narrow network of short runs has 1 at least."""
    for side, gammas in {32: (0.05, 0.5), 64: (2.0, 1.0), 256: (150.0,)}.items():
        found = gamma_for(image_data(channels=3, height=side, width=side))
        assert all(1 / 3.3 < found / gamma < 3.3 for gamma in gammas)
    configs = [find("gan", "r3gan").configure({}, image_data(channels=1, height=side, width=side)) for side in (28, 64, 256)]
    assert [config.gamma for config in configs] == [
        1.0,
        *(gamma_for(image_data(channels=1, height=s, width=s)) for s in (64, 256)),
    ]


def test_r3gan_starts_with_blocks_that_change_nothing(make_case: Any) -> None:
    """Fixup: the last layer of a block is zero, the spread of the others falls with the number of blocks of the network."""
    case = make_case("gan", "r3gan")
    spreads = []
    for blocks in (1, 4):
        family = case.build(width=64, blocks=blocks)
        for network in (family.generator, family.discriminator):
            inside = [module for module in network.modules() if type(module).__name__ == "Block"]
            assert len(inside) == 2 * blocks
            x_BCHW = torch.randn(2, inside[0].body[0].in_channels, 4, 4, generator=torch.Generator().manual_seed(0))
            assert torch.equal(inside[0](x_BCHW), x_BCHW)
            spreads.append(float(inside[0].body[2].weight.detach().std()))
    assert spreads[2] / spreads[0] == pytest.approx(4**-0.25, rel=0.02)
    assert spreads[3] / spreads[1] == pytest.approx(4**-0.25, rel=0.02)
