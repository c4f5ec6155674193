"""Consistency tuning: r goes from 0 to t, the first stage is denoising, the sampler keeps a known distribution in any steps."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from components.core.errors import BriefError
from components.core.family import Batch
from components.core.records import DataSpec
from components.families.diffusion.consistency import ECT, LEVELS, ConsistencyConfig, FewSteps, consistency_loss, nearer

SPEC = DataSpec(channels=1, height=8, width=8, std=0.5)


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


def test_later_the_target_is_the_models_own_nearer_point() -> None:
    """Of a network that says zero everywhere nothing is left to learn."""
    config = ConsistencyConfig()
    y_BCHW = torch.randn(256, 1, 4, 4, generator=rng())
    loss = consistency_loss(Nothing(), y_BCHW, None, rng(1), config=config, stage=8)  # type: ignore[arg-type]
    assert float(loss) < 1e-3


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_exact_map_keeps_the_distribution_in_any_number_of_steps(steps: int) -> None:
    noise_BNCHW = torch.randn(20_000, steps, 1, 1, 1, generator=rng())
    x_BCHW = FewSteps(Straight(0.5), LEVELS[:steps]).integrate(noise_BNCHW)
    assert float(x_BCHW.std()) == pytest.approx(0.5, rel=0.02)
    assert float(x_BCHW.mean()) == pytest.approx(0, abs=0.01)


def test_the_stages_follow_the_budget() -> None:
    family = ECT.build({"teacher_share": 0.5, "stages": 4}, SPEC)
    assert isinstance(family, ECT)
    assert [family._stage(done) for done in (0, 0.49, 0.5, 0.624, 0.626, 0.99, 1.0)] == [0, 0, 1, 1, 2, 4, 4]


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
