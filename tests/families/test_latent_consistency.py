"""Latent consistency: what its loss wants, on which levels it draws, and that a student has its teacher's guidance."""

import copy
from typing import Any

import pytest
import torch
from specs import image_data, text_data
from torch import Tensor

from components.core.errors import BriefError
from components.core.family import Batch, Family
from components.families import find
from components.families.diffusion.process import forward_process
from components.families.diffusion.sampling import CLEAN, Point, Renewal, Sampler, multistep
from components.training.distillation.latent_consistency import LCMStudent

SMALL = {"width": 16, "widths": [1], "attention": False, "autoencoder_width": 16, "latent": 1}


def made(**config: Any) -> Any:
    return find("diffusion", "lcm").build(SMALL | config, image_data(channels=1, height=8, width=8), light=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Gaussian(torch.nn.Module):
    """Where the deterministic path through z_t ends, of codes of this deviation: what the consistency loss should make of D."""

    def __init__(self, levels: list[Point], deviation: float) -> None:
        super().__init__()
        self.known = {float(level.time): level for level in [*levels, CLEAN]}
        self.deviation = deviation

    def forward(self, z_BZhw: Tensor, time_B: Tensor, asked: Any = None) -> Tensor:
        now = [self.known[float(t)] for t in time_B]
        spread = torch.tensor([(each.alpha**2 * self.deviation**2 + each.sigma**2) ** 0.5 for each in now])
        return z_BZhw * (self.deviation / spread).view(-1, 1, 1, 1)


def test_the_loss_of_what_ends_each_path_is_almost_none() -> None:
    """Of Gaussian codes paths are known; what is left is the error of one step of DDIM, which shrinks with its length."""
    left = []
    for taught in (50, 200):
        family = made(taught=taught, levels=1000, betas_from=0.001, betas_to=0.012, schedule="scaled_linear", clip=False)
        exact = Gaussian(family.levels[:-1], 0.7)
        known = {float(level.time): level for level in family.levels[:-1]}
        family._modules["denoiser"] = exact

        def mean(z: Tensor, t_B: Tensor, known: dict[float, Point] = known) -> Tensor:
            """E[z_0 | z_t], by which DDIM follows the path."""
            now = [known[float(t)] for t in t_B]
            gain = torch.tensor([each.alpha * 0.49 / (each.alpha**2 * 0.49 + each.sigma**2) for each in now])
            return z * gain.view(-1, 1, 1, 1)

        codes = 0.7 * normal(256, 1, 4, 4)
        rng = torch.Generator().manual_seed(1)
        left.append(float(family.consistency(codes, None, rng, follow=mean)))
        wrong = float(family.consistency(codes, None, torch.Generator().manual_seed(1), follow=lambda z, t, c=codes: 0 * c))
        assert wrong > 3 * left[-1], "another end of the paths costs more"
    assert left[1] < left[0] / 3


def test_of_one_code_all_levels_lead_to_it() -> None:
    family = made()
    code = normal(1, 1, 4, 4)

    class One(torch.nn.Module):
        def forward(self, z_BZhw: Tensor, time_B: Tensor, asked: Any = None) -> Tensor:
            return code.expand_as(z_BZhw)

    family._modules["denoiser"] = One()
    codes = code.expand(64, -1, -1, -1)
    loss = family.consistency(codes, None, torch.Generator().manual_seed(0), follow=lambda z, t: codes)
    assert float(loss) < 1e-6


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_it_draws_on_levels_that_it_was_taught_at(steps: int) -> None:
    """Those of diffusers' LCMScheduler, too."""
    from diffusers.schedulers.scheduling_lcm import LCMScheduler

    family = made(steps=steps)
    times = family.code_sampler(None).rows_K8[:, 0].tolist()
    assert set(times) <= {float(level.time) for level in family.levels}
    scheduler = LCMScheduler(original_inference_steps=50)
    scheduler.set_timesteps(steps)
    assert times == scheduler.timesteps.tolist()
    assert family.noise_inputs()[0].shape == (steps, *family.autoencoder.shape)


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_noise_that_is_drawn_anew_leaves_each_level_its_deviation(gamma: float) -> None:
    """Of Gaussian codes, whatever alpha is: with alpha 1 it is what the consistency models of EDM do."""
    levels = [forward_process("scaled_linear", 1000)[at] for at in (999, 600, 200)]
    data = 0.8
    exact = Gaussian(levels, data)
    sampler = Sampler(exact, levels, solver="multistep", renewal=Renewal(gamma=gamma, deviation=data))
    start = (levels[0].alpha ** 2 * data**2 + levels[0].sigma ** 2) ** 0.5 / levels[0].sigma
    noise = normal(4000, 3, 1, 2, 2)
    noise[:, 0] *= start
    x = sampler.integrate(noise)
    assert float(x.std()) == pytest.approx(data, rel=0.02)
    flat = Point(time=1.0, alpha=1.0, sigma=2.0)
    row = multistep(flat, Point(time=0.5, alpha=1.0, sigma=0.5), Renewal(gamma=gamma, deviation=data))
    assert row.x + row.denoised == pytest.approx(1.0)


def teacher_of(spec: Any) -> Family:
    torch.manual_seed(0)
    family = find("diffusion", "ldm").build(SMALL | {"guidance": 3.0, "steps": 10, "halve": 1}, spec, light=True).eval()
    with torch.no_grad():
        for name, parameter in family.named_parameters():
            if name.startswith("denoiser."):
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return family


def student_of(teacher: Any, *, steps: int = 1) -> LCMStudent:
    spec = teacher.spec
    if getattr(spec.condition, "negative", False):
        spec = spec.model_copy(update={"condition": spec.condition.model_copy(update={"negative": False})})
    own = teacher.config.model_dump(mode="json") | {"guidance": 1.0, "steps": steps}
    own |= LCMStudent.own_recipe(own, narrower=False)
    return LCMStudent(LCMStudent.configure(own, spec), spec, teacher=copy.deepcopy(teacher))


@pytest.mark.parametrize("negative", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_a_student_learns_what_its_teacher_draws_with_guidance_of_a_text(negative: bool) -> None:
    """In one step from the same noise it comes nearer to where twenty-five of the teacher end, with what was asked for."""
    teacher: Any = teacher_of(text_data(channels=1, height=8, width=8, negative=negative))
    student, rows, noise = student_of(teacher), normal(16, 4, 8, seed=1), normal(16, 1, 4, 4, seed=2)
    assert student.imitation == 0, "it begins with all of its teacher's weights"
    asked = torch.stack([rows, torch.zeros_like(rows)], dim=1) if negative else rows
    with torch.no_grad():
        theirs = teacher.code_sampler(25)(noise, asked)

    def apart() -> float:
        with torch.no_grad():
            drawn = student.eval().code_sampler(None)(noise[:, None], rows)
        student.train()
        return float((drawn - theirs).abs().mean())

    before, optimizer = apart(), torch.optim.Adam(student.denoiser.parameters(), lr=2e-3)
    rng = torch.Generator().manual_seed(0)
    for step in range(30):
        (loss,) = student.losses(Batch(normal(16, 1, 8, 8, seed=step), rows, progress=0.5), rng).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert apart() < 0.85 * before
    assert not [name for name, _ in student.named_parameters() if "teacher" in name]
    assert set(student.learning_groups()) >= {"prior"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"guidance": 2.0}, "override.config.guidance: 2.0 for a model of few steps; allowed: 1: it has none"),
        ({"taught": 3, "steps": 4}, "override.config.taught: 3; allowed: 4 to 1000: its steps to its levels"),
        ({"steps": 9}, r"override.config.steps: .* less than or equal to 8 \(given: 9\)"),
    ],
)
def test_a_config_that_cannot_be_is_one_line(config: dict[str, Any], said: str) -> None:
    with pytest.raises(BriefError, match=said):
        made(**config)
