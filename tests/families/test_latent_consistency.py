"""Latent consistency: what its loss wants, on which levels it draws, and that a student has its teacher's guidance."""

import copy
from typing import Any

import pytest
import torch
from specs import image_data, text_data
from torch import Tensor

from components.core.errors import BriefError
from components.core.family import Batch, Family
from components.families import find, find_card
from components.families.diffusion.process import forward_process
from components.families.diffusion.sampling import CLEAN, Point, Renewal, Sampler, multistep
from components.training.distillation import student_class

CODES = {"autoencoder_width": 16, "latent": 1}
SMALL: dict[str, dict[str, Any]] = {
    "lcm": CODES | {"width": 16, "widths": [1], "attention": False},
    "mmdit-lcm": CODES | {"width": 16, "blocks": 2, "patch": 1},
}
STABLE = {"levels": 1000, "betas_from": 0.001, "betas_to": 0.012, "schedule": "scaled_linear", "clip": False}
AWAKE = {"ldm": 0.05, "mmdit": 0.1}  # by which one step and many come to different ends
OF = {"ldm": SMALL["lcm"], "mmdit": SMALL["mmdit-lcm"]}
EACH = [("lcm", STABLE), ("mmdit-lcm", {"shift": 1.0}), ("mmdit-lcm", {"shift": 3.0})]


def made(variant: str = "lcm", **config: Any) -> Any:
    return find("diffusion", variant).build(SMALL[variant] | config, image_data(channels=1, height=8, width=8), light=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_time(levels: list[Point]) -> dict[float, Point]:
    """As a denoiser hears it, in single precision."""
    return {float(torch.tensor(level.time)): level for level in levels}


class Gaussian(torch.nn.Module):
    """Where the deterministic path through z_t ends, of codes of this deviation: what the consistency loss should make of D."""

    def __init__(self, levels: list[Point], deviation: float) -> None:
        super().__init__()
        self.known = by_time([*levels, CLEAN])
        self.deviation = deviation

    def forward(self, z_BZhw: Tensor, time_B: Tensor, asked: Any = None) -> Tensor:
        now = [self.known[float(t)] for t in time_B]
        spread = torch.tensor([(each.alpha**2 * self.deviation**2 + each.sigma**2) ** 0.5 for each in now])
        return z_BZhw * (self.deviation / spread).view(-1, 1, 1, 1)


@pytest.mark.parametrize(("variant", "config"), EACH)
def test_the_loss_of_what_ends_each_path_is_almost_none(variant: str, config: dict[str, Any]) -> None:
    """Of Gaussian codes paths are known; what is left is the error of one step of DDIM, or of Euler's method, which shrinks with
    its length."""
    left = []
    for taught in (50, 200):
        family = made(variant, taught=taught, **config)
        exact = Gaussian(family.levels[:-1], 0.7)
        known = by_time(family.levels[:-1])
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


@pytest.mark.parametrize(("variant", "config"), EACH)
def test_of_one_code_all_levels_lead_to_it(variant: str, config: dict[str, Any]) -> None:
    family = made(variant, **config)
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


@pytest.mark.parametrize("shift", [1.0, 1.73, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_of_flow_matching_too(steps: int, shift: float) -> None:
    """Those of diffusers' FlowMatchEulerDiscreteScheduler, which shifts what it is told."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    family = made("mmdit-lcm", steps=steps, shift=shift)
    times = family.code_sampler(None).rows_K8[:, 0]
    assert set(times.tolist()) <= {*by_time(family.levels)}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=family.sigmas)
    torch.testing.assert_close(times, scheduler.timesteps, atol=1e-3, rtol=0)
    assert (float(times[0]), len(times)) == (1000, steps), "it begins with noise alone"
    assert family.noise_inputs()[0].shape == (steps, *family.autoencoder.shape)
    trained = FlowMatchEulerDiscreteScheduler(shift=shift).timesteps.tolist()
    assert all(min(abs(level.time - each) for each in trained) < 1e-3 for level in family.levels[:-1]), "and taught on its own"


class Constant(torch.nn.Module):
    """A velocity that is the same everywhere."""

    def __init__(self, velocity: float) -> None:
        super().__init__()
        self.velocity = torch.nn.Parameter(torch.tensor(velocity))

    def forward(self, z_BZhw: Tensor, time_B: Tensor, asked: Any = None) -> Tensor:
        return z_BZhw - (time_B / 1000).view(-1, 1, 1, 1) * self.velocity


def test_a_teacher_of_constant_velocity_makes_a_student_that_is_exact_in_one_step() -> None:
    """z_u = z_t + (u - t) m, so the loss hangs on (t - u) (m - v) alone, and is none where v = m."""
    teacher: Any = find("diffusion", "mmdit").build(OF["mmdit"] | {"shift": 3.0}, image_data(channels=1, height=8, width=8))
    student = student_of(teacher)
    student.teacher._denoiser = Constant(-0.4)
    student._modules["denoiser"] = learns = Constant(0.0)
    learns.training_labels = lambda asked, rng: None  # type: ignore[assignment]
    rng, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(learns.parameters(), lr=0.02)
    with torch.no_grad():
        first = float(student.losses(Batch(normal(64, 1, 8, 8), None, progress=0.5), rng)["prior"])
    for step in range(100):
        (loss,) = student.losses(Batch(normal(16, 1, 8, 8, seed=step), None, progress=0.5), rng).values()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 100)
        optimizer.step()
    assert float(learns.velocity.detach()) == pytest.approx(-0.4, abs=1e-3)
    assert float(loss.detach()) < 1e-3 * first
    noise = normal(8, *student.autoencoder.shape, seed=3)
    with torch.no_grad():
        many = teacher.code_sampler(28)
        many.denoiser = student.teacher._denoiser
        torch.testing.assert_close(student.few_steps().integrate(noise[:, None]), many.integrate(noise), atol=2e-3, rtol=0)


def test_the_noise_of_a_further_step_takes_the_place_of_what_is_left() -> None:
    """x = (1 - u) D + u n, whatever was there: by a denoiser that sees one code, that code and the noise of its level."""
    family = made("mmdit-lcm", steps=2, shift=3.0)
    seen: list[tuple[Tensor, float]] = []

    class One(torch.nn.Module):
        def forward(self, z_BZhw: Tensor, time_B: Tensor, asked: Any = None) -> Tensor:
            seen.append((z_BZhw, float(time_B[0]) / 1000))
            return torch.full_like(z_BZhw, 0.3)

    family._modules["denoiser"] = One()
    noise = normal(3, *family.noise_inputs()[0].shape)
    assert torch.equal(family.code_sampler(None).integrate(noise), torch.full_like(noise[:, 0], 0.3))
    (first, t), (second, u) = seen
    assert t == 1
    assert u == pytest.approx(0.75), "3 times the odds of a half"
    assert torch.equal(first, noise[:, 0])
    torch.testing.assert_close(second, (1 - u) * 0.3 + u * noise[:, 1])


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


def teacher_of(spec: Any, variant: str, **config: Any) -> Family:
    torch.manual_seed(0)
    own = OF[variant] | {"guidance": 3.0, "steps": 10, "halve": 1} | config
    family = find("diffusion", variant).build(own, spec, light=True).eval()
    awake(family, by=AWAKE[variant])
    return family


def awake(family: Family, *, by: float) -> None:
    """No weight of its denoiser is at its start."""
    with torch.no_grad():
        for name, parameter in family.named_parameters():
            if name.startswith("denoiser."):
                parameter.add_(by * torch.randn(parameter.shape))


def student_of(teacher: Any, *, steps: int = 1, **config: Any) -> Any:
    spec, cls = teacher.spec, student_class(find_card("diffusion", teacher.card.student))
    if getattr(spec.condition, "negative", False):
        spec = spec.model_copy(update={"condition": spec.condition.model_copy(update={"negative": False})})
    own = teacher.config.model_dump(mode="json") | {"guidance": 1.0, "steps": steps} | config
    own |= cls.own_recipe(own, narrower=False)
    return cls(cls.configure(own, spec), spec, teacher=copy.deepcopy(teacher))


@pytest.mark.parametrize("negative", [True, pytest.param(False, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(("variant", "rate"), [("ldm", 2e-3), ("mmdit", 1e-3)])
def test_a_student_learns_what_its_teacher_draws_with_guidance_of_a_text(variant: str, rate: float, negative: bool) -> None:
    """In one step from the same noise it comes nearer to where twenty-five of the teacher end, with what was asked for."""
    teacher: Any = teacher_of(text_data(channels=1, height=8, width=8, negative=negative), variant)
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

    before, optimizer = apart(), torch.optim.Adam(student.denoiser.parameters(), lr=rate)
    rng = torch.Generator().manual_seed(0)
    for step in range(40):
        (loss,) = student.losses(Batch(normal(16, 1, 8, 8, seed=step), rows, progress=0.5), rng).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert apart() < 0.85 * before
    assert not [name for name, _ in student.named_parameters() if "teacher" in name]
    assert set(student.learning_groups()) >= {"prior"}


@pytest.mark.parametrize("variant", ["ldm", "mmdit"])
def test_a_narrower_student_imitates_first(variant: str) -> None:
    teacher: Any = teacher_of(text_data(channels=1, height=8, width=8), variant, width=32)
    student, rows = student_of(teacher, width=16), normal(8, 4, 8)
    assert student.imitation > 0
    awake(student, by=0.05)

    def perfect(z_BZhw: Tensor, t_B: Tensor, labels_B: Tensor) -> Any:
        return student.denoiser(z_BZhw, t_B, labels_B)

    student.teacher.denoise = perfect
    early, late = (Batch(normal(8, 1, 8, 8), rows, progress=at) for at in (0.1, 0.9))
    with torch.no_grad():
        losses = [float(student.losses(batch, torch.Generator().manual_seed(0))["prior"]) for batch in (early, late)]
    assert losses[0] == pytest.approx(0, abs=1e-9)
    assert losses[1] > 1e-6


@pytest.mark.parametrize("variant", SMALL)
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"guidance": 2.0}, "override.config.guidance: 2.0 for a model of few steps; allowed: 1: it has none"),
        ({"taught": 3, "steps": 4}, "override.config.taught: 3; allowed: 4 to 1000: its steps to its levels"),
        ({"steps": 9}, r"override.config.steps: .* less than or equal to 8 \(given: 9\)"),
    ],
)
def test_a_config_that_cannot_be_is_one_line(variant: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(BriefError, match=said):
        made(variant, **config)
