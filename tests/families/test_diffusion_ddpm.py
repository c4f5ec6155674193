"""DDPM: the forward process, the three predictions, and how sampling steps are chosen."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from components.core.errors import BriefError
from components.core.family import Batch
from components.families.diffusion.ddpm import DDPM, DDPMConfig
from components.families.diffusion.process import betas, forward_process, trailing
from components.families.diffusion.steps import clean, target

PREDICTIONS = ("epsilon", "v", "x0")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_forward_process_keeps_the_variance_and_ends_in_noise(schedule: Any) -> None:
    process = forward_process(schedule, 1000)
    assert all(point.alpha**2 + point.sigma**2 == pytest.approx(1) for point in process)
    assert all(before.alpha > after.alpha for before, after in pairwise(process))
    assert process[0].alpha > 0.999
    assert process[-1].alpha < 0.01
    # One step at a time, x_t = sqrt(1 - beta) x_(t-1) + sqrt(beta) eps, gives the same mean and variance.
    mean, variance = 1.0, 0.0
    for beta, point in zip(betas(schedule, 1000), process, strict=True):
        mean, variance = mean * math.sqrt(1 - beta), variance * (1 - beta) + beta
        assert (mean, variance) == (pytest.approx(point.alpha, rel=1e-9), pytest.approx(point.sigma**2, rel=1e-6))


@pytest.mark.parametrize(("schedule", "named"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_the_betas_are_those_of_diffusers(schedule: Any, named: str) -> None:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    expected = DDPMScheduler(beta_schedule=named).betas.double()
    torch.testing.assert_close(torch.tensor(betas(schedule, 1000), dtype=torch.float64), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_right_prediction_gives_the_image(prediction: Any) -> None:
    x0, eps = normal(5, 1, 2, 2), normal(5, 1, 2, 2, seed=1)
    for point in forward_process("linear", 1000)[::111]:
        alpha, sigma = (torch.tensor(share, dtype=torch.float64) for share in (point.alpha, point.sigma))
        told = target(prediction, x0, eps, alpha, sigma)
        torch.testing.assert_close(clean(prediction, alpha * x0 + sigma * eps, told, alpha, sigma), x0)


def test_errors_of_the_predictions_are_those_of_the_image_weighted() -> None:
    """|eps error|^2 = alpha^2 / sigma^2 |x0 error|^2 and |v error|^2 = 1 / sigma^2 |x0 error|^2 (arXiv:2202.00512, sec. 4)."""
    x0, eps, wrong = normal(5), normal(5, seed=1), normal(5, seed=2)
    alpha, sigma = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    x = alpha * x0 + sigma * eps
    for prediction, weight in (("epsilon", (0.6 / 0.8) ** 2), ("v", 1 / 0.8**2)):
        off = target(prediction, x0, eps, alpha, sigma) + wrong  # type: ignore[arg-type]
        error = (clean(prediction, x, off, alpha, sigma) - x0) ** 2  # type: ignore[arg-type]
        torch.testing.assert_close(wrong**2, weight * error)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_network_that_says_zero_has_the_loss_of_its_target(make_case: Any, prediction: Any) -> None:
    """The last layer starts at zero. Of data of deviation 1: epsilon and v are of deviation 1, and x0's weight is at least 1."""
    family = make_case("diffusion", "ddpm").build(prediction=prediction)
    y = normal(200, 1, 8, 8).float()
    with torch.no_grad():
        loss = float(family.losses(Batch(y), torch.Generator().manual_seed(0))["model"])
    if prediction == "x0":
        assert loss > 1
    else:
        assert loss == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("levels", "steps"), [(1000, 1), (1000, 7), (1000, 1000), (10, 3)])
def test_sampling_starts_at_the_last_level_and_goes_down(levels: int, steps: int) -> None:
    chosen = trailing(forward_process("cosine", levels), steps)
    assert len(chosen) == steps
    assert chosen[0].time == levels - 1
    assert all(before.time > after.time >= 0 for before, after in pairwise(chosen))


def test_ancestral_sampling_takes_a_noise_image_a_step(make_case: Any) -> None:
    case = make_case("diffusion", "ddpm")
    family = case.build(solver="ancestral", steps=5).eval()
    assert family.noise_inputs()[0].shape == (5, 1, 8, 8)
    (noise,) = family.noise(3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.nn.init.normal_(family.denoiser.net.conv_out.weight, generator=torch.Generator().manual_seed(0))
        whole = family.sampler()(noise)
        for step in range(5):
            changed = noise.clone()
            changed[:, step] += 1
            assert not torch.equal(family.sampler()(changed), whole), f"the noise of step {step} does not reach the image"
        assert torch.equal(family.sampler(steps=3)(noise), family.sampler(steps=3)(noise[:, :3]))
    with pytest.raises(BriefError, match="allowed: 1 to 5"):
        family.sampler(steps=6)


def test_denoised_images_are_bounded_unless_told_otherwise(make_case: Any) -> None:
    case = make_case("diffusion", "ddpm")
    assert case.build().sampler().limit == 1
    assert case.build(clip=False).sampler().limit is None
    assert DDPM.card.steps == DDPMConfig().steps
