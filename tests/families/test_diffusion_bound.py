"""The bound of DDPM against what is known of Gaussian data, and the variances that it learns.

Of x0 ~ N(mu, s^2) all that the chain does is known. With r_t = alpha^2 s^2 + sigma^2 the denoised image is
D(x_t) = (alpha s^2 x_t + sigma^2 mu) / r_t, its error s^2 sigma^2 / r_t, and the reverse step is exactly a Gaussian of variance
beta~ + (alpha_u (1 - SNR_t / SNR_u))^2 s^2 sigma^2 / r_t. With that variance the bound is no bound but -log p(x0) itself.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.core.family import Batch
from components.families.diffusion.bound import Chain, log_mass
from components.families.diffusion.ddpm import DDPM, DDPMConfig
from components.families.diffusion.process import forward_process, trailing
from components.families.diffusion.sampling import Point, Sampler, ancestral

MU, S = 0.1, 0.2
ENTROPY = 0.5 * math.log(2 * math.pi * math.e * S**2) - math.log(2 / 255)  # nats an 8-bit value, whose bins are far below S


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def error_of(point: Point) -> float:
    return S**2 * point.sigma**2 / (point.alpha**2 * S**2 + point.sigma**2)


class Exact:
    """The best denoiser of N(MU, S^2) on the levels of a chain, and with `learned` its exact variances."""

    def __init__(self, levels: Sequence[Point], *, learned: bool) -> None:
        self.points = {level.time: level for level in levels}
        self.shares = {level.time: share for level, share in zip(levels, exact_shares(levels), strict=True)} if learned else None

    def __call__(self, x_BCHW: Tensor, time_B: Tensor) -> tuple[Tensor, Tensor | None]:
        alpha, sigma = (torch.tensor([self.points[time][part] for time in time_B.tolist()]).view(-1, 1, 1, 1) for part in (1, 2))
        denoised_BCHW = (alpha * S**2 * x_BCHW + sigma**2 * MU) / (alpha**2 * S**2 + sigma**2)
        if self.shares is None:
            return denoised_BCHW, None
        shares = torch.tensor([self.shares[time] for time in time_B.tolist()]).view(-1, 1, 1, 1)
        return denoised_BCHW, shares.expand_as(x_BCHW)


def exact_shares(levels: Sequence[Point]) -> list[float]:
    """f of each level, by which beta^f beta~^(1 - f) is the variance of the exact reverse step."""
    least, widens = ancestral(levels[1], levels[0]).noise, math.log(levels[0].sigma / ancestral(levels[1], levels[0]).noise)
    shares = [math.log(math.sqrt(error_of(levels[0])) / least) / widens]
    for before, now in pairwise(levels):
        row = ancestral(now, before)
        variance = row.noise**2 + row.denoised**2 * error_of(now)
        shares.append(math.log(variance / row.noise**2) / (2 * row.widens))
    return shares


def gaussian(n: int) -> Tensor:
    """8-bit images x_BCHW of N(MU, S^2)."""
    x_BCHW = MU + S * torch.randn(n, 1, 4, 4, generator=rng(5))
    return ((x_BCHW.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


@pytest.mark.parametrize("schedule", ["cosine", pytest.param("linear", marks=pytest.mark.slow)])
def test_with_the_exact_variances_it_is_the_likelihood(schedule: Any) -> None:
    """Image by image, and in the mean the entropy of the data."""
    levels = forward_process(schedule, 1000)
    x_BCHW = gaussian(4000)
    nats_B = Chain(levels, deviation=S).cost(x_BCHW, Exact(levels, learned=True), rng(), draws=64)
    exact_B = -log_mass(x_BCHW, torch.tensor(MU), torch.tensor(math.log(S))).flatten(1).sum(1)
    assert float(nats_B.mean()) / 16 == pytest.approx(ENTROPY, abs=0.02)
    gap_B = (nats_B - exact_B) / 16
    error = float(gap_B.std()) / len(gap_B) ** 0.5
    assert error < 0.004
    assert abs(float(gap_B.mean())) < 3 * error
    again = x_BCHW[:100].repeat(50, 1, 1, 1)  # one estimate of an image errs by as much as images differ
    mean_B = Chain(levels, deviation=S).cost(again, Exact(levels, learned=True), rng(), draws=64).view(50, 100).mean(0)
    assert float(torch.corrcoef(torch.stack([mean_B, exact_B[:100]]))[0, 1]) > 0.97


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_with_other_variances_it_is_the_sum_of_known_divergences(share: float) -> None:
    """A chain of few steps, all of them taken, where what a wrong variance costs is large."""
    levels = trailing(forward_process("cosine", 1000), 12)[::-1]

    def denoise(x_BCHW: Tensor, time_B: Tensor) -> tuple[Tensor, Tensor]:
        return Exact(levels, learned=False)(x_BCHW, time_B)[0], torch.full_like(x_BCHW, share)

    nats_B = Chain(levels, deviation=S).cost(gaussian(3000), denoise, rng(), draws=16)
    first, last, expected = levels[0], levels[-1], 0.0
    for before, now in pairwise(levels):
        row = ancestral(now, before)
        ratio = math.exp(2 * row.widens * share)  # Sigma / beta~
        expected += 0.5 * (math.log(ratio) - 1 + (1 + row.denoised**2 * error_of(now) / row.noise**2) / ratio)
    least = ancestral(levels[1], first).noise
    variance = least ** (2 - 2 * share) * first.sigma ** (2 * share)
    expected += 0.5 * (math.log(2 * math.pi * variance) + error_of(first) / variance) - math.log(2 / 255)
    expected += 0.5 * (last.alpha**2 * (S**2 + MU**2) + last.sigma**2 - 1 - 2 * math.log(last.sigma))
    assert float(nats_B.mean()) / 16 == pytest.approx(expected, rel=0.01)
    assert expected > ENTROPY


def test_drawn_steps_give_what_all_of_them_give() -> None:
    """In the mean; and they scatter little, since they fall where the cost is."""
    levels = forward_process("cosine", 200)
    chain, denoise, x_BCHW = Chain(levels, deviation=S), Exact(levels, learned=False), gaussian(1).expand(400, -1, -1, -1)
    whole_B, drawn_B = (chain.cost(x_BCHW, denoise, rng(seed), draws=draws) for seed, draws in ((1, 199), (2, 8)))
    spread = float(drawn_B.std())
    assert float(drawn_B.mean()) == pytest.approx(float(whole_B.mean()), abs=4 * spread / math.sqrt(200))
    assert spread < 0.1 * float(whole_B.mean())


@pytest.mark.parametrize("deviation", [0.002, 0.05, 3.0])
@pytest.mark.parametrize("mean", [-1.2, -1.0, 0.3, 1.01])
def test_the_masses_of_all_values_sum_to_one(mean: float, deviation: float) -> None:
    values = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(1, 1, 1, 256)
    mass = log_mass(values, torch.tensor(mean, dtype=torch.float64), torch.tensor(math.log(deviation), dtype=torch.float64))
    assert torch.isfinite(mass).all()
    assert float(mass.exp().sum()) == pytest.approx(1, abs=2e-4)


class Known(nn.Module):
    """What the sampler takes for a denoiser: the best one, with its variances or without."""

    def __init__(self, levels: Sequence[Point], *, learned: bool) -> None:
        super().__init__()
        self.exact = Exact(levels, learned=learned)

    def forward(self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return torch.cat([each for each in self.exact(x_BCHW, time_B) if each is not None], dim=1)


def test_ancestral_sampling_draws_with_the_variances_that_were_learned() -> None:
    """In eight steps: with exact variances the data's deviation, with the least ones too little."""
    levels = trailing(forward_process("cosine", 1000), 8)
    noise = torch.randn(20_000, 8, 1, 1, 1, generator=rng())
    stretched = {}
    for learned in (False, True):
        denoiser = Known(levels[::-1], learned=learned)
        x = Sampler(denoiser, levels, solver="ancestral").integrate(noise)
        # The last step of the sampler gives the mean; the decoder's own noise is what a bound adds to it.
        stretched[learned] = math.sqrt(float(x.var()) + error_of(levels[-1]))
        assert float(x.mean()) == pytest.approx(MU, abs=0.01)
    assert stretched[True] == pytest.approx(S, rel=0.02)
    assert stretched[False] < 0.95 * S


def test_the_bound_teaches_the_variances_and_not_the_image(make_case: Any) -> None:
    """L_hybrid: its second part has a gradient for the last layer's second half alone, in proportion to its weight."""
    case = make_case("diffusion", "ddpm")
    gradients = {}
    for weight in (1e-3, 1e-2):
        family = case.build(learned_variance=True, bound_weight=weight, dropout=0.0)
        (loss,) = family.losses(Batch(case.images(32)), rng()).values()
        gradients[weight] = torch.autograd.grad(loss, family.denoiser.net.conv_out.weight)[0]
    small, large = gradients[1e-3], gradients[1e-2]
    assert len(small) == 2
    assert torch.equal(small[0], large[0])
    torch.testing.assert_close(10 * small[1], large[1], rtol=1e-4, atol=1e-9)
    assert float(small[1].abs().max()) > 0


def test_variances_begin_in_the_middle_and_a_class_is_guided_without_them(make_case: Any) -> None:
    family = make_case("diffusion", "ddpm", conditional=True).build(learned_variance=True, guidance=3.0, solver="ancestral")
    x_BCHW, labels_B = torch.randn(3, 1, 8, 8, generator=rng()), torch.tensor([0, 1, 2])
    family.eval()
    with torch.no_grad():
        _, share_BCHW = family.denoiser.moments(x_BCHW, torch.full((3,), 500.0), labels_B)
        assert share_BCHW is not None
        assert float((share_BCHW - 0.5).abs().max()) < 0.01
        nn.init.normal_(family.denoiser.net.conv_out.weight, std=0.1, generator=rng())
        _, share_BCHW = family.denoiser.moments(x_BCHW, torch.full((3,), 500.0), labels_B)
        said = family.sampler().denoiser(x_BCHW, torch.full((3,), 500.0), labels_B)
    assert said.shape == (3, 2, 8, 8)
    torch.testing.assert_close(said[:, 1:], share_BCHW)


def test_a_student_is_bounded_on_the_levels_it_knows(make_case: Any) -> None:
    family = make_case("diffusion", "ddpm").build(steps=4, own_levels=True).eval()
    asked: list[float] = []
    family.denoiser.net.register_forward_pre_hook(lambda _, inputs: asked.extend(inputs[1].tolist()))
    with torch.no_grad():
        family.log_prob(make_case("diffusion", "ddpm").images(2))
    assert set(asked) == {point.time for point in trailing(forward_process("cosine", 1000), 4)}


def test_all_levels_are_bounded_otherwise() -> None:
    assert not DDPMConfig().own_levels
    assert DDPM.card.likelihood == "bound"


def test_a_denoiser_that_errs_wildly_teaches_finite_variances() -> None:
    """At the noisiest level an error is divided by alpha, so one of random weights is a thousand away from its image."""
    chain = Chain(forward_process("linear", 1000), deviation=1.0)
    x0, share = torch.randn((2, 1, 32, 32), generator=rng()), torch.full((2, 1, 32, 32), 0.5, requires_grad=True)
    away = torch.stack([torch.full((1024,), 1e-3), torch.linspace(-1e3, 1e3, 1024)]).view(2, 1, 32, 32)
    chain.step(torch.tensor([0, 999]), x0, x0 + away, share).sum().backward()
    assert share.grad is not None
    assert bool(share.grad.isfinite().all())
