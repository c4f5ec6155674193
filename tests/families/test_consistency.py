"""Consistency tuning: r goes from 0 to t, the first stage is denoising, the sampler keeps a known distribution in any steps."""

import math
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor, nn

from components.core.errors import BriefError
from components.core.family import Batch
from components.families.diffusion.consistency import ECT, LEVELS, ConsistencyConfig, consistency_loss, nearer
from components.families.diffusion.sampling import Point, Renewal, Sampler

SPEC = image_data(channels=1, height=8, width=8, std=0.5)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Straight(nn.Module):
    """The exact map of N(0, s^2) from any noise level to data: x s / sqrt(s^2 + t^2)."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x_BCHW: Tensor, t_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        t = t_B.view(-1, 1, 1, 1)
        return x_BCHW * self.deviation / (self.deviation**2 + t**2).sqrt()


class Nothing(nn.Module):
    """Says zero, whatever it sees."""

    def forward(self, x_BCHW: Tensor, t_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x_BCHW)


def test_the_nearer_point_goes_from_zero_to_t() -> None:
    config = ConsistencyConfig()
    t_B = torch.logspace(-2, 1.9, 40)
    r_SB = torch.stack([nearer(t_B, config, stage=stage) for stage in range(20)])
    assert torch.equal(r_SB[0], torch.zeros_like(t_B))
    assert (r_SB.diff(dim=0) >= 0).all()
    assert (r_SB < t_B).all()
    torch.testing.assert_close(r_SB[-1], t_B, rtol=1e-4, atol=0)
    half = t_B[20] * (1 - (1 + 8 / (1 + math.exp(float(t_B[20])))) / 2**4)
    assert float(r_SB[4, 20]) == pytest.approx(float(half), rel=1e-5)


def test_at_first_the_target_is_the_image() -> None:
    """Of a network that says zero the distance is then the image's norm, and the weight 1 / t."""
    config = ConsistencyConfig(t_std=1e-6, t_mean=math.log(2.0))
    y_BCHW = torch.randn(16, 1, 4, 4, generator=rng())
    loss = consistency_loss(Nothing(), y_BCHW, None, rng(1), config=config, stage=0)  # type: ignore[arg-type]
    expected = y_BCHW.flatten(1).norm(dim=1).mean() / 2.0
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


class Times(nn.Module):
    """a x, at every noise level."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x_BCHW: Tensor, t_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return self.factor * x_BCHW


@pytest.mark.parametrize("c", [0.0, 0.3])
def test_later_the_target_is_the_models_own_nearer_point(c: float) -> None:
    """Eq. 12 and its gradient for f = a x, where |f(y + t e) - sg f(y + r e)| = a (t - r) |e|, written out."""
    config, a = ConsistencyConfig(c=c), 0.7
    model, y_BCHW = Times(a), torch.randn(64, 1, 4, 4, generator=rng())
    loss = consistency_loss(model, y_BCHW, None, rng(1), config=config, stage=2)  # type: ignore[arg-type]
    loss.backward()
    same = rng(1)
    t_B = (config.t_mean + config.t_std * torch.randn(64, generator=same)).exp().clamp(config.sigma_min, config.sigma_max)
    e_BV = torch.randn(y_BCHW.shape, generator=same).flatten(1)
    r_B, y_BV = nearer(t_B, config, stage=2), y_BCHW.flatten(1)
    assert 0 < int((r_B == 0).sum()) < 64  # of these the target is the image
    noisy_BV = y_BV + t_B[:, None] * e_BV
    target_BV = torch.where(r_B[:, None] > 0, a * (y_BV + r_B[:, None] * e_BV), y_BV)
    gap_BV = a * noisy_BV - target_BV
    huber_B = (gap_BV.square().sum(1) + c**2).sqrt()
    assert loss.item() == pytest.approx(float(((huber_B - c) / (t_B - r_B)).mean()), rel=1e-4)
    slope = ((gap_BV * noisy_BV).sum(1) / huber_B / (t_B - r_B)).mean()
    assert float(model.factor.grad) == pytest.approx(float(slope), rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.1])
def test_the_exact_map_keeps_the_distribution_in_any_number_of_steps(steps: int, gamma: float) -> None:
    """Whatever is kept of the noise. Of two steps the plain Euler's method would have 1.16 times the deviation at 0.7."""
    noise_BNCHW = torch.randn(20_000, steps, 1, 1, 1, generator=rng())
    levels = [Point(time=level, alpha=1.0, sigma=level) for level in LEVELS[steps]]
    sampler = Sampler(Straight(0.5), levels, solver="multistep", renewal=Renewal(gamma=gamma, deviation=0.5))
    x_BCHW = sampler.integrate(noise_BNCHW)
    assert float(x_BCHW.std()) == pytest.approx(0.5, rel=0.02)
    assert float(x_BCHW.mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("std", [0.2, 0.62, 3.0])
def test_it_draws_where_it_was_trained(steps: int, std: float) -> None:
    family = ECT.build({"steps": steps}, SPEC.model_copy(update={"std": std}))
    sampler = family.sampler()
    sigmas = [float(time) for time in sampler.rows_K8[:, 0]]
    assert len(sigmas) == steps
    assert sigmas == sorted(sigmas, reverse=True)
    assert sampler.sigma_max == pytest.approx(sigmas[0])
    assert sigmas[0] <= family.config.sigma_max


def test_the_stages_follow_the_budget() -> None:
    family = ECT.build({"teacher_share": 0.5, "stages": 4}, SPEC)
    assert isinstance(family, ECT)
    assert [family._stage(done) for done in (0, 0.49, 0.5, 0.624, 0.626, 0.99, 1.0)] == [0, 0, 1, 1, 2, 4, 4]


@pytest.mark.parametrize("variant", ["ect", "latent-ect"])
def test_the_tuning_goes_slowly(make_case: Any, variant: str) -> None:
    family = make_case("diffusion", variant).build(teacher_share=0.5, tuning_rate=0.3)
    assert [family.rate_share(done) for done in (0, 0.49, 0.5, 0.75, 1.0)] == [1, 1, 0.3, 0.3, 0.3]
    assert make_case("diffusion", variant).build().rate_share(1.0) == 0.2


def test_the_teachers_share_is_trained_as_the_teacher(make_case: Any) -> None:
    case = make_case("diffusion", "ect")
    student, teacher = case.build(), make_case("diffusion", "edm").build()
    teacher.load_state_dict(student.state_dict())
    x_BCHW = case.images(6)
    ours, its = (family.losses(Batch(x_BCHW, progress=0.1), rng())["model"] for family in (student, teacher))
    assert torch.equal(ours, its)
    tuned = student.losses(Batch(x_BCHW, progress=0.9), rng())["model"]
    assert not torch.equal(tuned, its)


def test_each_step_has_noise_of_its_own(make_case: Any) -> None:
    family = make_case("diffusion", "ect").build(steps=3).eval()
    noise_BNCHW = torch.randn(4, 3, 1, 8, 8, generator=rng())
    with torch.no_grad():
        nn.init.normal_(family.denoiser.net.conv_out.weight, std=0.1)
        x_BCHW = family.sampler()(noise_BNCHW)
        for step in range(3):
            other = noise_BNCHW.clone()
            other[:, step] = torch.randn(4, 1, 8, 8, generator=rng(7))
            assert not torch.equal(family.sampler()(other), x_BCHW)


def test_guidance_is_refused() -> None:
    with pytest.raises(BriefError, match=r"guidance: 2\.0 .*few steps"):
        ECT.build({"guidance": 2.0}, SPEC)
