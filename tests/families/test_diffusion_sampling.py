"""Every solver's table against diffusers' schedulers and against a mixture whose denoiser and score are known.

For x = alpha x0 + sigma eps and x0 of the mixture sum_k w_k N(m_k, s^2), p(x) = sum_k w_k N(alpha m_k, alpha^2 s^2 + sigma^2),
and the score is (alpha D(x) - x) / sigma^2 (Tweedie).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor, nn

from components.core.family import Batch
from components.families import cards, find
from components.families.diffusion import sampling
from components.families.diffusion.preconditioning import PreconditionedConfig, points
from components.families.diffusion.process import forward_process, trailing
from components.families.diffusion.sampling import Point, Sampler, Solver, ancestral, table
from components.families.diffusion.steps import clean

MEANS, WEIGHTS, S = (-0.5, 0.4), (0.3, 0.7), 0.08
NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


class Mixture(nn.Module):
    """The best denoiser of the mixture at given levels, which it knows by their time."""

    def __init__(self, levels: Sequence[Point]) -> None:
        super().__init__()
        self.levels = {round(point.time, 4): point for point in levels}

    def forward(self, x: Tensor, time_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        point = self.levels[round(float(time_B[0]), 4)]
        variance = point.alpha**2 * S**2 + point.sigma**2
        means = torch.tensor(MEANS, dtype=x.dtype).view(-1, *[1] * x.dim())
        weights = torch.tensor(WEIGHTS, dtype=x.dtype).view(-1, *[1] * x.dim())
        off = x - point.alpha * means
        share = (weights.log() - off**2 / (2 * variance)).softmax(0)
        return (share * (means + point.alpha * S**2 / variance * off)).sum(0)


class Curved(nn.Module):
    """A network with no meaning, nonlinear in both arguments."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return torch.tanh(x * 0.7 + 0.1) * torch.cos(time.view(-1, *[1] * (x.dim() - 1)) / 300)


class Predicted(nn.Module):
    """D by a prediction of the curved network."""

    def __init__(self, prediction: Any, levels: Sequence[Point]) -> None:
        super().__init__()
        self.prediction, self.levels, self.network = prediction, {point.time: point for point in levels}, Curved()

    def forward(self, x: Tensor, time_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        point = self.levels[float(time_B[0])]
        shares = (torch.tensor(share, dtype=x.dtype) for share in (point.alpha, point.sigma))
        return clean(self.prediction, x, self.network(x, time_B), *shares)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ours(schedule: Any, prediction: Any, solver: Solver, noise: Tensor, *, steps: int) -> Tensor:
    process = forward_process(schedule, 1000)
    sampler = Sampler(Predicted(prediction, process), trailing(process, steps), solver=solver).double()
    sampler.sigma_max = 1.0  # diffusers starts from the noise as it is
    return sampler.integrate(noise)


def theirs(scheduler: Any, noise: Tensor, *, steps: int, **options: Any) -> Tensor:
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        out = Curved()(scheduler.scale_model_input(x, t), t.double().expand(len(x)))
        x = scheduler.step(out, t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("schedule", NAMES)
@pytest.mark.parametrize(("prediction", "named"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("x0", "sample")])
@pytest.mark.parametrize("solver", ["ddim", "dpm++", "ancestral"])
def test_the_tables_follow_diffusers_schedulers(schedule: str, prediction: str, named: str, solver: Solver) -> None:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    steps = 10
    common = {"beta_schedule": NAMES[schedule], "prediction_type": named, "timestep_spacing": "trailing"}
    noise = normal(3, 1, 2, 5)
    if solver == "ancestral":
        rng = torch.Generator().manual_seed(7)
        expected = theirs(DDPMScheduler(**common, clip_sample=False), noise, steps=steps, generator=rng)
        rng = torch.Generator().manual_seed(7)
        more = [torch.randn(noise.shape, generator=rng, dtype=torch.float64) for _ in range(steps - 1)]
        noise = torch.stack([noise, *more], dim=1)
    elif solver == "ddim":
        expected = theirs(DDIMScheduler(**common, clip_sample=False), noise, steps=steps)
    else:
        expected = theirs(DPMSolverMultistepScheduler(**common, final_sigmas_type="zero"), noise, steps=steps)
    got = ours(schedule, prediction, solver, noise, steps=steps)
    # Both hold their coefficients in single precision, which dividing by the cosine's last alpha, 5e-5, makes coarse.
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=2e-3)


def test_heun_follows_diffusers_scheduler() -> None:
    from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler

    scheduler = HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", timestep_spacing="trailing")
    process = forward_process("linear", 1000)
    sampler = Sampler(Predicted("epsilon", process), trailing(process, 8), solver="heun").double()
    scheduler.set_timesteps(8)
    noise = normal(3, 1, 2, 5)
    x = noise * process[-1].sigma / process[-1].alpha  # theirs walks in x / alpha
    for t in scheduler.timesteps:
        out = Curved()(scheduler.scale_model_input(x, t), t.double().expand(len(x)))
        x = scheduler.step(out, t, x).prev_sample
    torch.testing.assert_close(sampler.integrate(noise), x, atol=1e-3, rtol=1e-3)


LEVELS: dict[str, Callable[[int], list[Point]]] = {
    "edm": lambda steps: points(PreconditionedConfig(), steps),
    "linear": lambda steps: trailing(forward_process("linear", 1000), steps),
    "cosine": lambda steps: trailing(forward_process("cosine", 1000), steps),
}


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("solver", ["heun", "ddim", "dpm++", "ancestral"])
def test_samples_of_a_known_mixture_have_its_modes(kind: str, solver: Solver) -> None:
    """DDPM's levels are many: its last step to the mean of what is left costs a deviation of the order of the last sigma."""
    steps, n = 200 if kind == "edm" else 1000, 2500
    levels = LEVELS[kind](steps)
    noise = normal(n, steps, 1, 1, 1).float() if solver == "ancestral" else normal(n, 1, 1, 1).float()
    x = Sampler(Mixture(levels), levels, solver=solver)(noise).flatten()
    upper = x > 0
    assert float(upper.float().mean()) == pytest.approx(WEIGHTS[1], abs=0.01 + 3 * math.sqrt(WEIGHTS[0] * WEIGHTS[1] / n))
    for mode, mean in ((x[~upper], MEANS[0]), (x[upper], MEANS[1])):
        assert float(mode.mean()) == pytest.approx(mean, abs=0.01)
        # The posterior's variance is the reverse step's for a single point, and its lower bound for data that is spread.
        assert float(mode.std()) == pytest.approx(S, rel=0.1 if solver == "ancestral" else 0.06)


@pytest.mark.parametrize("kind", LEVELS)
def test_the_denoiser_of_the_mixture_gives_its_score(kind: str) -> None:
    """So that the test above stands on a denoiser that is right."""
    levels = LEVELS[kind](6)
    for point in levels[1:]:
        x = (normal(50) * (point.alpha + point.sigma)).requires_grad_()
        deviation = math.sqrt(point.alpha**2 * S**2 + point.sigma**2)
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(torch.tensor(WEIGHTS, dtype=torch.float64)),
            torch.distributions.Normal(point.alpha * torch.tensor(MEANS, dtype=torch.float64), deviation),
        )
        (score,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
        denoised = Mixture(levels)(x.detach(), torch.tensor([point.time]))
        torch.testing.assert_close((point.alpha * denoised - x.detach()) / point.sigma**2, score, atol=1e-6, rtol=1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize("variant", ["edm", "ddpm"])
def test_a_trained_model_has_the_score_of_its_data_and_draws_it(variant: str) -> None:
    """Images of one pixel, learnt by the loss of the variant: D against the exact one, and the samples."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    family: Any = find("diffusion", variant).build({"width": 32}, image_data(channels=1, height=1, width=1, std=0.42))
    x0_N111 = mixture_of(20_000, rng)
    optimizer = torch.optim.Adam(family.parameters())
    steps = 1500
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, 2 * (1 - step / steps))
        optimizer.zero_grad()
        chosen = torch.randint(len(x0_N111), (512,), generator=rng)
        family.losses(Batch(x0_N111[chosen], step=step), rng)["model"].backward()
        optimizer.step()
    family.eval()
    levels = points(family.config, 12) if variant == "edm" else trailing(forward_process("cosine", 1000), 12)
    exact, noise = Mixture(levels), torch.randn(4000, 1, 1, 1, generator=rng)
    for point in levels:
        if point.sigma > 10 * point.alpha:  # training hardly goes there, and the samples below show that it need not
            continue
        x = point.alpha * x0_N111[:4000] + point.sigma * noise
        time_N = torch.full((len(x),), point.time)
        with torch.no_grad():
            error = family.denoiser(x, time_N) - exact(x, time_N)
        assert float(error.square().mean().sqrt()) < 0.1 * 0.42, f"at alpha {point.alpha:.3g}, sigma {point.sigma:.3g}"
    with torch.no_grad():
        drawn = family.sampler(steps=40)(noise).flatten()
    upper = drawn > 0
    assert float(upper.float().mean()) == pytest.approx(WEIGHTS[1], abs=0.04)
    for mode, mean in ((drawn[~upper], MEANS[0]), (drawn[upper], MEANS[1])):
        assert float(mode.mean()) == pytest.approx(mean, abs=0.03)
        assert float(mode.std()) == pytest.approx(S, rel=0.35)


def mixture_of(n: int, rng: torch.Generator) -> Tensor:
    """Draws of the mixture, images of one pixel."""
    upper = torch.rand(n, 1, 1, 1, generator=rng) < WEIGHTS[1]
    return torch.where(upper, MEANS[1], MEANS[0]) + S * torch.randn(n, 1, 1, 1, generator=rng)


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("solver", ["heun", "ddim", "dpm++", "ancestral"])
def test_a_point_is_where_every_solver_ends(kind: str, solver: Solver) -> None:
    """Of data that is one point: x0 + noise in proportion at every level, and x0 itself at the end."""
    levels, x0 = LEVELS[kind](5), 0.25
    point = Sampler(nn.Module(), levels, solver=solver)
    point.denoiser.forward = lambda x, *_: torch.full_like(x, x0)
    noise = normal(2, 5, 1, 2, 2).float() if solver == "ancestral" else normal(2, 1, 2, 2).float()
    torch.testing.assert_close(point(noise), torch.full((2, 1, 2, 2), x0))


def test_ancestral_steps_keep_the_marginals() -> None:
    """From q(x_t | x0) the posterior leads to q(x_s | x0): mean alpha_s x0, variance sigma_s^2."""
    process = forward_process("linear", 1000)
    for now, following in ((process[900], process[500]), (process[500], process[499]), (process[20], process[3])):
        row = ancestral(now, following)
        assert row.x * now.alpha + row.denoised == pytest.approx(following.alpha)
        assert row.x**2 * now.sigma**2 + row.noise**2 == pytest.approx(following.sigma**2)


@pytest.mark.parametrize(("solver", "evaluations"), [("heun", 19), ("ddim", 10), ("dpm++", 10), ("ancestral", 10)])
def test_the_rows_are_the_network_evaluations(solver: Solver, evaluations: int) -> None:
    assert len(table(LEVELS["edm"](10), solver)) == evaluations


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("dpm++", 2), ("heun", 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver: Solver, order: int) -> None:
    """On levels evenly spaced in ln(alpha / sigma), the last of them at 0.05, from which one exact step is left out."""
    errors = []
    noise = normal(40, 1, 1, 1)
    for steps in (16, 32, 64, 512):
        sigmas = [3.0 * (0.05 / 3.0) ** (k / steps) for k in range(steps + 1)]
        levels = [Point(time=sigma, alpha=1.0, sigma=sigma) for sigma in sigmas]
        errors.append(Sampler(Mixture(levels), levels, solver=solver).double().integrate(noise))
    gaps = [float((error - errors[-1]).abs().mean()) for error in errors[:-1]]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(gaps)]
    assert all(measured > order - 0.5 for measured in orders), (gaps, orders)


def test_the_cards_say_from_where_on_a_graph_is_a_loop() -> None:
    """Those of networks that are large in themselves from the second step on."""
    students = {card.variant: card.loop_above for card, _, _ in cards().values() if card.student_steps}
    assert [students.pop(each) for each in ("lcm", "mmdit-lcm")] == [sampling.ONE] * 2
    assert {*students.values()} == {sampling.UNROLLED}
