"""A network of diffusers as a model here: its betas, its losses' weights, and the same images in plain diffusers."""

from typing import Any

import made_elsewhere
import pytest
import torch
from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from specs import image_data
from torch import Tensor

from components.core.errors import BriefError
from components.core.family import Batch, Family
from components.families import cards, find
from components.families.diffusion.ddpm import DDPM, DDPMConfig
from components.families.diffusion.process import betas, forward_process
from components.training.distillation.progressive import ProgressiveStudent
from components.training.foreign.weights import named_as_ours

NETWORK = {name: list(value) if isinstance(value, tuple) else value for name, value in made_elsewhere.NETWORK.items()}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2", "sigmoid": "sigmoid"}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given(*, classes: int = 0, **config: Any) -> DDPM:
    names = tuple(map(str, range(classes)))
    spec = image_data(channels=1, height=8, width=8, classes=names, conditional=bool(classes))
    torch.manual_seed(0)
    return DDPM(DDPMConfig.model_validate({"network": NETWORK, "width": 32} | config), spec).eval()


def drawn(pipeline: Any, noise: Tensor, labels: Tensor | None = None, *, steps: int) -> Tensor:
    """What plain diffusers makes of a noise: its pipeline's loop, which draws its own."""
    pipeline.scheduler.set_timesteps(steps)
    x = noise
    for t in pipeline.scheduler.timesteps:
        said = pipeline.unet(x, t, class_labels=labels).sample
        x = pipeline.scheduler.step(said, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
    return x.clamp(-1, 1)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_levels_are_those_of_diffusers(schedule: Any, zero_snr: bool) -> None:
    ends = (0.00085, 0.012)
    other = DDPMScheduler(
        beta_schedule=SCHEDULES[schedule], beta_start=ends[0], beta_end=ends[1], rescale_betas_zero_snr=zero_snr
    )
    process = forward_process(schedule, 1000, ends=ends, zero_snr=zero_snr)
    kept = torch.tensor([point.alpha**2 for point in process])
    torch.testing.assert_close(kept, other.alphas_cumprod, atol=2e-5, rtol=1e-3)
    if not zero_snr:
        torch.testing.assert_close(torch.tensor(betas(schedule, 1000, ends=ends)), other.betas, atol=1e-6, rtol=1e-4)
    assert (process[-1].alpha == 0) is zero_snr


@pytest.mark.parametrize(("prediction", "zero_snr"), [("epsilon", False), ("v", False), ("v", True), ("x0", False)])
def test_plain_diffusers_draws_the_same_images_of_the_same_noise(prediction: Any, zero_snr: bool, tmp_path: Any) -> None:
    family = given(
        prediction=prediction, zero_snr=zero_snr, schedule="scaled_linear", betas_from=0.00085, betas_to=0.012, steps=10
    )
    family.pipeline().save_pretrained(tmp_path, safe_serialization=True)
    other = DDIMPipeline.from_pretrained(tmp_path)
    assert isinstance(other.scheduler, DDIMScheduler)
    noise, t = normal(3, 1, 8, 8), torch.tensor([5, 500, 999])
    with torch.no_grad():
        assert torch.equal(family.denoiser.net(noise, t, return_dict=False)[0], other.unet(noise, t).sample)
        torch.testing.assert_close(family.sampler()(noise), drawn(other, noise, steps=10), atol=2e-5, rtol=0)


def test_classes_go_to_the_network_and_back(tmp_path: Any) -> None:
    family = given(classes=3, steps=4)
    family.pipeline().save_pretrained(tmp_path)
    other, noise, labels = DDIMPipeline.from_pretrained(tmp_path), normal(3, 1, 8, 8), torch.tensor([0, 1, 2])
    assert other.unet.config.num_class_embeds == 3
    with torch.no_grad():
        torch.testing.assert_close(family.sampler()(noise, labels), drawn(other, noise, labels, steps=4), atol=2e-5, rtol=0)


def test_a_published_network_keeps_its_weights_and_what_it_says() -> None:
    net = made_elsewhere.network().eval()
    family = given()
    family.load_state_dict(named_as_ours(net.state_dict()))
    noise, t = normal(2, 1, 8, 8), torch.tensor([1, 700])
    with torch.no_grad():
        assert torch.equal(family.denoiser.net(noise, t, return_dict=False)[0], net(noise, t).sample)


@pytest.mark.parametrize(("prediction", "by"), [("x0", 1.0), ("epsilon", 0.5625), ("v", 1.5625)])
def test_min_snr_weighs_each_prediction_alike(prediction: Any, by: float) -> None:
    """alpha = 0.6, sigma = 0.8: SNR is 0.5625, below the bound 5; at alpha = 0.8, sigma = 0.6 it is 16/9, over the bound 1."""
    weigh = given(prediction=prediction, min_snr=5.0).denoiser._weight
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    assert float(weigh(alpha, sigma)) == pytest.approx(0.5625 / by)
    bounded = given(prediction=prediction, min_snr=1.0).denoiser._weight
    snr = 16 / 9
    assert float(bounded(sigma, alpha)) == pytest.approx(1.0 / {"x0": 1.0, "epsilon": snr, "v": snr + 1}[prediction])


def test_min_snr_changes_the_loss_and_by_default_nothing_does() -> None:
    batch = Batch(normal(64, 1, 8, 8))

    def loss(**config: Any) -> float:
        with torch.no_grad():
            return float(given(**config).losses(batch, torch.Generator().manual_seed(0))["model"])

    assert loss() == loss(min_snr=None) != loss(min_snr=5.0)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_offset_noise_moves_the_mean_of_a_channel_and_is_asked_for(prediction: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of black images at the last level x is sigma times the noise: white but for the mean, whose variance is o^2 more."""
    family, offset, side = given(prediction=prediction, noise_offset=0.5, levels=1000), 0.5, 8
    family.denoiser.alpha_T[:], family.denoiser.sigma_T[:] = 0.6, 0.8
    seen: list[Tensor] = []

    def network(x_BCHW: Tensor, *_: Any) -> Tensor:
        seen.append(x_BCHW)
        return torch.zeros_like(x_BCHW)

    monkeypatch.setattr(family.denoiser, "network", network)
    loss = float(family.losses(Batch(torch.zeros(4096, 1, side, side)), torch.Generator().manual_seed(0))["model"])
    noise = seen[0] / 0.8
    means = noise.mean((2, 3))
    assert float(means.var()) == pytest.approx(offset**2 + 1 / side**2, rel=0.1)
    assert float((noise - means[..., None, None]).var()) == pytest.approx(1 - 1 / side**2, rel=0.02)
    alpha2 = {"epsilon": 1.0, "v": 0.36, "x0": 0.0}[prediction]  # of the target's variance: eps, alpha eps, and nothing
    assert loss == pytest.approx(alpha2 * (1 + offset**2), rel=0.05)


def test_without_an_offset_no_number_is_drawn_for_it() -> None:
    rngs = [torch.Generator().manual_seed(0) for _ in range(3)]
    for rng, config in zip(rngs, ({}, {"noise_offset": 0.0}, {"noise_offset": 0.1}), strict=True):
        given(**config).losses(Batch(normal(4, 1, 8, 8)), rng)
    states = [rng.get_state() for rng in rngs]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"patch": 2}, "network: given with dense, patch or augment"),
        ({"augment": 0.1}, "network: given with dense, patch or augment"),
        ({"betas_from": 0.1}, "betas_from and betas_to: one alone"),
        ({"noise_offset": 0.1, "learned_variance": True}, "noise_offset: given with learned_variance: true"),
        ({"zero_snr": True, "prediction": "epsilon"}, "zero_snr: true with prediction: epsilon"),
        ({"zero_snr": True, "solver": "heun"}, "zero_snr: true with solver: heun"),
        ({"network": {"block_out_channels": [32]}}, "network: down_block_types is missing"),
    ],
)
def test_a_config_that_cannot_be_is_refused(config: dict[str, Any], said: str) -> None:
    spec = image_data(channels=1, height=8, width=8)
    with pytest.raises(BriefError, match=said):
        DDPM.build({"network": NETWORK, "width": 32} | config, spec)


@pytest.mark.parametrize("width", [32, 16])
def test_it_teaches_a_student_of_few_steps(width: int) -> None:
    """Of its own network, whose weights the student begins with; or of a narrower one, whose norms have groups that divide it."""
    teacher = given(prediction="v", steps=8)
    known = teacher.config.model_dump(mode="json")
    own = known | {"steps": 4, "width": width} | ProgressiveStudent.own_recipe(known, narrower=width != 32)
    student = ProgressiveStudent(DDPMConfig.model_validate(own), teacher.spec, teacher=teacher)
    assert list(student.denoiser.net.config.block_out_channels) == [width, width]
    assert (student.imitation == 0) is (width == 32)
    for progress in (0.1, 0.9):
        loss = student.losses(Batch(normal(4, 1, 8, 8), progress=progress), torch.Generator().manual_seed(0))["model"]
        assert loss.isfinite()
        loss.backward()
    assert student.sampler(steps=4)(normal(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def test_noise_alone_is_drawn_from_by_each_solver() -> None:
    """Where alpha is 0 the first step of dpm++ is of first order."""
    noise = normal(2, 1, 8, 8)
    for solver in ("ddim", "dpm++", "ancestral"):
        family = given(solver=solver, zero_snr=True, prediction="v", steps=3)
        assert family.sampler()(noise if solver != "ancestral" else normal(2, 3, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize("name", ["vae/gaussian", "diffusion/edm"])
def test_what_diffusers_has_no_pipeline_for_says_so(name: str) -> None:
    cls: type[Family] = find(*name.split("/"))
    family = cls.build({}, image_data(channels=1, height=8, width=8), light=True)
    with pytest.raises(BriefError, match=f"{name} cannot be written as a pipeline of diffusers; allowed: .*diffusion/ddpm"):
        family.pipeline()
    assert ("diffusion", "ddpm") in cards()


def test_squares_of_pixels_are_no_part_of_a_pipeline() -> None:
    family = DDPM.build({"patch": 2}, image_data(channels=1, height=8, width=8))
    with pytest.raises(BriefError, match="patch: 2 cannot be written"):
        family.pipeline()
    plain = DDPM.build({"prediction": "x0"}, image_data(channels=1, height=8, width=8)).pipeline()
    assert plain.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    assert plain.unet.config.sample_size == 8
