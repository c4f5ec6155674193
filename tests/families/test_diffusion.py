"""EDM: the sampler against a distribution whose denoiser is known, and against the paper's own algorithm.

For data N(mu, s^2) the best denoiser is D(x; sigma) = (s^2 x + sigma^2 mu) / (s^2 + sigma^2), and the ODE (eq. 3 of
arXiv:2206.00364) takes x at sigma_max to mu + (x - mu) s / sqrt(s^2 + sigma_max^2).
"""

import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from specs import image_data, image_item, to_uint8
from torch import Tensor, nn

from components.core.errors import BriefError
from components.core.family import to_data_units
from components.core.records import Dataset, DataSpec
from components.families import find
from components.families.diffusion import EDM, EDMConfig, Sampler
from components.families.diffusion.preconditioning import points
from components.families.images import resized

MU, S = 0.1, 0.2


class Gaussian(nn.Module):
    """The best denoiser of N(MU, S^2)."""

    def forward(self, x: Tensor, sigma_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        variance = sigma_B.view(-1, 1, 1, 1) ** 2
        return (S**2 * x + variance * MU) / (S**2 + variance)


class Curved(nn.Module):
    """A denoiser with no meaning, nonlinear in both arguments."""

    def forward(self, x: Tensor, sigma_B: Tensor, condition_B: Tensor | None = None) -> Tensor:
        sigma = sigma_B.view(-1, 1, 1, 1)
        return torch.tanh(x / (1 + sigma)) * torch.cos(sigma) * 0.5


def sampler_of(denoiser: nn.Module, config: EDMConfig, *, steps: int) -> Sampler:
    return Sampler(denoiser, points(config, steps), solver=config.solver)


def algorithm_1(denoiser: nn.Module, noise: Tensor, config: EDMConfig, *, steps: int, heun: bool) -> Tensor:
    """Karras et al. 2022, algorithm 1 with sigma(t) = t and s(t) = 1, line by line, on the times of eq. 5."""
    roots = torch.linspace(config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho), steps, dtype=torch.float64)
    t = torch.cat([roots**config.rho, torch.zeros(1, dtype=torch.float64)])
    x = noise * t[0]
    for i in range(steps):
        d = (x - denoiser(x, t[i].expand(len(x)))) / t[i]
        following = x + (t[i + 1] - t[i]) * d
        if heun and t[i + 1] != 0:
            d_next = (following - denoiser(following, t[i + 1].expand(len(x)))) / t[i + 1]
            following = x + (t[i + 1] - t[i]) * (d / 2 + d_next / 2)
        x = following
    return x.clamp(-1, 1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("solver", ["heun", "ddim"])
@pytest.mark.parametrize("steps", [1, 2, 5, 18])
def test_the_table_is_algorithm_1(solver: Any, steps: int) -> None:
    config = EDMConfig(solver=solver)
    noise = normal(4, 1, 3, 5)
    got = sampler_of(Curved(), config, steps=steps).double()(noise)
    expected = algorithm_1(Curved(), noise, config, steps=steps, heun=solver == "heun")
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)  # the table is in single precision


@pytest.mark.parametrize(("solver", "evaluations"), [("heun", 35), ("ddim", 18)])
def test_the_rows_are_the_network_evaluations(solver: Any, evaluations: int) -> None:
    assert len(sampler_of(Gaussian(), EDMConfig(solver=solver), steps=18).rows_K8) == evaluations


@pytest.mark.parametrize(("solver", "steps", "within"), [("heun", 64, 0.01), ("ddim", 400, 0.01)])
def test_samples_of_a_known_gaussian_have_its_mean_and_deviation(solver: Any, steps: int, within: float) -> None:
    x = sampler_of(Gaussian(), EDMConfig(solver=solver), steps=steps)(normal(64, 1, 16, 16).float())
    assert float(x.mean()) == pytest.approx(MU, abs=within * S + 3 * S / math.sqrt(x.numel()))
    assert float(x.std()) == pytest.approx(S, rel=within + 3 / math.sqrt(2 * x.numel()))


@pytest.mark.parametrize(("solver", "order"), [("heun", 2), ("ddim", 1)])
def test_the_error_falls_with_the_order_of_the_solver(solver: Any, order: int) -> None:
    """Twice the steps: half the error of Euler (DDIM), a quarter of Heun's."""
    config = EDMConfig(solver=solver, sigma_max=10.0)
    noise = normal(4, 1, 4, 4).clamp(-2, 2)
    exact = MU + (noise * config.sigma_max - MU) * S / math.sqrt(S**2 + config.sigma_max**2)
    errors = [
        float((sampler_of(Gaussian(), config, steps=steps).double()(noise) - exact).abs().max()) for steps in (16, 32, 64, 128)
    ]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert all(abs(measured - order) < 0.35 for measured in orders), (errors, orders)


def test_preconditioning_gives_unit_inputs_and_a_unit_loss(make_case: Any) -> None:
    """For data of deviation sigma_data the network sees deviation 1 at every sigma, and a network that says 0 has loss 1."""
    case = make_case("diffusion", "edm")
    family = case.build(dropout=0.0)
    seen: list[Tensor] = []
    family.denoiser.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    y = 0.5 * normal(160, 1, 8, 8).float()
    with torch.no_grad():
        for sigma in (0.01, 0.3, 5.0, 60.0):
            noisy = y + sigma * normal(160, 1, 8, 8, seed=1).float()
            family.denoiser(noisy, torch.full((160,), sigma))
            assert float(seen[-1].std()) == pytest.approx(1, abs=0.03)
        batch = type(case.batch())(y)
        loss = family.losses(batch, torch.Generator().manual_seed(0))["model"]
    assert float(loss) == pytest.approx(1, abs=0.03)


SIGMAS = (0.01, 0.3, 5.0, 60.0)


def far_from_zero(n: int = 400) -> tuple[DataSpec, Tensor]:
    """Bright and dark channels of 8-bit images, as prepared: what a family knows of them, and the images x_BCHW."""
    means, deviations = torch.tensor([-0.7, 0.1, 0.6]), torch.tensor([0.1, 0.3, 0.15])
    x_BCHW = means.view(-1, 1, 1) + deviations.view(-1, 1, 1) * normal(n, 3, 8, 8).float()
    stored = to_uint8(x_BCHW.clamp(-1, 1).numpy())
    dataset = Dataset(
        name="d", repo=".", rev="HEAD", md5="d", item=image_item(8, 8, 3), count=n, classes=(), splits={"train": n},
        mean=tuple(stored.mean((0, 1, 2)).tolist()), std=tuple(stored.std((0, 1, 2)).tolist()),
    )  # fmt: skip
    return DataSpec.of(dataset), to_data_units(stored, dataset.item)


@pytest.mark.parametrize("variant", ["edm", "ect", "cascade"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_input_and_target_have_a_second_moment_of_one_whatever_the_mean(variant: str, sigma: float) -> None:
    """Appendix B.6 asks for both at every noise level. Taken for 0, this mean makes the target's 6.6 (on MNIST 2.43)."""
    spec, y_BCHW = far_from_zero()
    small = {"width": 16, "p_mean": math.log(sigma), "p_std": 1e-6}
    family: Any = find("diffusion", variant).build(small, spec)
    denoiser = family.detail if variant == "cascade" else family.denoiser
    seen: list[Tensor] = []
    denoiser.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, :3]))
    with torch.no_grad():
        loss = denoiser.loss(y_BCHW, None, torch.Generator().manual_seed(0))  # of a network that says 0: the target's moment
    assert float(loss) == pytest.approx(1, abs=0.03)
    assert float(seen[-1].square().mean()) == pytest.approx(1, abs=0.03)
    assert float(seen[-1].mean()) == pytest.approx(0, abs=0.03)


def test_sampling_begins_around_the_mean() -> None:
    """Where the marginal of the noisiest level is; a network that says 0 draws the mean."""
    spec, _ = far_from_zero()
    family = EDM.build({"width": 16}, spec).eval()
    seen: list[Tensor] = []
    family.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    noise = normal(400, 3, 8, 8).float()
    with torch.no_grad():
        x_BCHW = family.sampler(steps=6).integrate(noise)
    mean_C11 = torch.tensor(spec.mean).view(-1, 1, 1)
    torch.testing.assert_close(seen[0], mean_C11 + 80 * noise)
    assert float((x_BCHW.mean((0, 2, 3)) - mean_C11.flatten()).abs().max()) < 0.02


@pytest.mark.parametrize("mean", [(), (0.0,)])
def test_without_a_mean_it_is_what_it_was(make_case: Any, mean: tuple[float, ...]) -> None:
    """Of a checkpoint of before there was a mean: the same images, weights of the same names."""
    spec = image_data(channels=1, height=8, width=8)
    one, other = (EDM.build({"width": 16, "mean_data": given}, spec).eval() for given in ((), mean))
    other.load_state_dict(one.state_dict())
    assert "denoiser.mean_C11" not in one.state_dict()
    noise = normal(3, 1, 8, 8).float()
    with torch.no_grad():
        assert torch.equal(one.sampler(steps=2)(noise), other.sampler(steps=2)(noise))


def test_a_mean_of_other_channels_is_refused() -> None:
    with pytest.raises(BriefError, match=r"mean_data: 2 values; allowed: 3, one a channel, or none"):
        EDM.build({"mean_data": (0.1, 0.2)}, image_data(channels=3, height=8, width=8))


def test_the_deviation_of_the_data_and_its_side_set_the_defaults() -> None:
    wide = image_data(channels=1, height=8, width=20, std=0.75)
    assert EDM.build({}, wide).config.sigma_data == 0.75
    assert EDM.build({"sigma_data": 0.3}, wide).config.sigma_data == 0.3
    doubled = EDM.build({}, wide.model_copy(update={"std": 1.0})).config
    assert doubled.p_mean == pytest.approx(EDMConfig().p_mean + math.log(2))
    widths = {side: EDM.build({}, resized(wide, width=side)).config.width for side in (8, 16, 17)}
    assert widths == {8: 32, 16: 32, 17: 64}


def test_steps_can_be_chosen_at_sampling(make_case: Any) -> None:
    family = make_case("diffusion", "edm").build()
    assert [len(family.sampler(steps=steps).rows_K8) for steps in (1, 2, 8)] == [1, 3, 15]
    assert len(family.sampler().rows_K8) == 2 * family.config.steps - 1
    assert make_case("diffusion", "edm").cls.card.steps == 2 * type(family).Config().steps - 1


@pytest.mark.parametrize("widths", [(1,), (1, 2)])
@pytest.mark.parametrize("width", [32, 64])
def test_noise_level_and_class_reach_the_network(make_case: Any, width: int, widths: tuple[int, ...]) -> None:
    """Both are added to each channel before a group normalisation, which would remove them if a group were one channel."""
    family = make_case("diffusion", "edm", conditional=True).build(width=width, widths=widths, dropout=0.0)
    net = family.denoiser.net
    nn.init.normal_(net.conv_out.weight, generator=torch.Generator().manual_seed(0))
    x = normal(2, 1, 8, 8).float()
    with torch.no_grad():
        out, later, other = (
            net(x, time, class_labels=torch.tensor([label, label]), return_dict=False)[0]
            for time, label in ((-300.0, 0), (300.0, 0), (-300.0, 1))
        )
        scale = float(out.std())
    assert float((out - later).std()) > 0.03 * scale
    assert float((out - other).std()) > 0.03 * scale


@pytest.mark.slow
def test_a_network_of_diffusers_brings_nothing_that_it_does_not_need() -> None:
    build = "find('diffusion', 'edm').build({}, image_data(channels=1, height=8, width=8))"
    script = f"import sys; from specs import *; from components.families import find; {build}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert "diffusers.models.unets.unet_2d" in done.stdout.split()
    assert not {"accelerate", "peft", "transformers", "mlflow", "prefect"} & set(done.stdout.split())
