"""Latent diffusion and the cascade: what is measured, what each stage sees, and when it learns."""

from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor

from components.core.family import Batch
from components.families.diffusion.cascade import Cascade
from components.families.diffusion.latent import Latent, LatentConfig


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def structured(n: int, *shape: int, seed: int = 0) -> Tensor:
    """Images whose pixels differ in mean and spread, so that channels of a code do."""
    base = torch.randn(n, *shape, generator=rng(seed))
    return (0.4 * base + 0.3 * torch.linspace(-1, 1, shape[-1])).clamp(-1, 1)


def test_the_measured_scale_is_the_deviation_of_the_codes(make_case: Any) -> None:
    family = make_case("diffusion", "latent").build().train()
    x = structured(256, 1, 8, 8)
    for seed in range(8):
        family.losses(Batch(x, progress=1.0), rng(seed))
    with torch.no_grad():
        z = torch.cat([family.autoencoder.draw(x, rng(100 + seed))[0] for seed in range(8)])
        codes = family.autoencoder.standardise(z, deviation=family.config.sigma_data)
        torch.testing.assert_close(family.autoencoder.scale, z.std((0, 2, 3)), rtol=0.03, atol=0)
        torch.testing.assert_close(family.autoencoder.mean_Z, z.mean((0, 2, 3)), rtol=0, atol=0.02)
        torch.testing.assert_close(codes.std((0, 2, 3)), torch.full((4,), 0.5), rtol=0.03, atol=0)
        torch.testing.assert_close(family.autoencoder.restore(codes, deviation=0.5), z, atol=1e-5, rtol=1e-5)


def test_codes_that_change_are_measured_over_the_last_batches(make_case: Any) -> None:
    autoencoder = make_case("diffusion", "latent").build().autoencoder
    z = torch.randn(64, 4, 4, 4, generator=rng())
    for _ in range(300):
        autoencoder.measure(5 + 3 * z, window=20)
    for _ in range(150):
        autoencoder.measure(z, window=20)
    torch.testing.assert_close(autoencoder.scale, z.std((0, 2, 3)), rtol=0.02, atol=0)
    assert autoencoder.batches == 20


def test_nothing_is_measured_outside_training_and_it_is_saved(make_case: Any) -> None:
    family = make_case("diffusion", "latent").build().eval()
    before = {name: value.clone() for name, value in family.state_dict().items() if "_Z" in name or "batches" in name}
    assert len(before) == 3
    for progress in (0.0, 1.0):
        family.losses(Batch(structured(8, 1, 8, 8), progress=progress), rng())
    assert all(torch.equal(family.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("member", ["diffusion/latent", "diffusion/latent-ect", "vae/vq", "autoregressive/vq-transformer"])
def test_each_stage_is_learnt_to_its_end(make_case: Any, member: str) -> None:
    """The share done of each stage goes from 0 to 1, so that the rate of the first falls before the second begins."""
    family = make_case(*member.split("/")).build(autoencoder_share=0.4)
    told = [family.stage_progress(progress) for progress in (0.0, 0.2, 0.399999, 0.4, 0.7, 1.0)]
    assert told == pytest.approx([0, 0.5, 1, 0, 0.5, 1], abs=1e-4)


def test_the_autoencoder_learns_first_and_rests_while_the_prior_learns(make_case: Any) -> None:
    family = make_case("diffusion", "latent").build().train()
    share = family.config.autoencoder_share
    x = structured(8, 1, 8, 8)
    first, then = (family.losses(Batch(x, progress=progress), rng()) for progress in (share - 1e-6, share))
    assert (set(first), set(then)) == ({"autoencoder"}, {"prior"})
    own = family.parameter_groups()
    gradients = torch.autograd.grad(then["prior"], own["autoencoder"], allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_the_sampler_gives_the_decoder_codes_of_the_measured_moments(make_case: Any) -> None:
    """With the best denoiser of standardised Gaussian codes, whatever their mean and scale were."""
    family = make_case("diffusion", "latent").build(steps=40).eval()
    mean, scale = torch.tensor([0.3, -2.0, 0.0, 5.0]), torch.tensor([0.1, 3.0, 1.0, 0.5])
    for _ in range(3):
        family.autoencoder.measure(mean.view(-1, 1, 1) + scale.view(-1, 1, 1) * torch.randn(4000, 4, 4, 4, generator=rng()))
    family.denoiser.forward = lambda x, sigma_B, *_: x * 0.25 / (0.25 + sigma_B.view(-1, 1, 1, 1) ** 2)
    seen: list[Tensor] = []
    family.autoencoder.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        family.sampler()(torch.randn(1000, 4, 4, 4, generator=rng(1)))
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), mean, atol=0.08, rtol=0)
    torch.testing.assert_close(seen[0].std((0, 2, 3)), scale, atol=0, rtol=0.03)


def test_the_autoencoder_learns_to_reconstruct(make_case: Any) -> None:
    family = make_case("diffusion", "latent").build().train()
    smooth = torch.linspace(-1, 1, 8).view(1, 1, 1, 8) * torch.linspace(-1, 1, 16).view(-1, 1, 1, 1)
    x = smooth.expand(-1, -1, 8, -1).contiguous()
    optimizer = torch.optim.Adam(family.autoencoder.parameters(), lr=3e-3)
    for seed in range(50):
        optimizer.zero_grad()
        family.losses(Batch(x, progress=0.0), rng(seed))["autoencoder"].backward()
        optimizer.step()
    with torch.no_grad():
        assert float((family.decode(family.encode(x)) - x).square().mean()) < 0.2 * float(x.var())


@pytest.mark.parametrize(("side", "code"), [((8, 8), (4, 4)), ((28, 28), (7, 7)), ((9, 13), (5, 7)), ((128, 130), (16, 17))])
def test_codes_are_halved_by_the_side(side: tuple[int, int], code: tuple[int, int]) -> None:
    family = Latent.build({"width": 16}, image_data(channels=3, height=side[0], width=side[1]))
    assert family.noise_inputs()[0].shape == (4, *code)


def test_the_base_sees_the_downsampled_image_alone(make_case: Any) -> None:
    """Detail that the mean over two by two pixels removes does not change its loss, and does change the second stage's."""
    family = make_case("diffusion", "cascade").build(dropout=0.0)
    x = structured(8, 1, 8, 8) * 0.5
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    plain, checked = (family.losses(Batch(images), rng()) for images in (x, x + 0.3 * checks))
    torch.testing.assert_close(plain["base"], checked["base"], atol=1e-5, rtol=1e-5)
    assert abs((plain["detail"] - checked["detail"]).item()) > 1e-2


def test_both_stages_learn_in_every_step_each_from_its_own_loss(make_case: Any) -> None:
    family = make_case("diffusion", "cascade").build()
    losses = family.losses(Batch(structured(8, 1, 8, 8), progress=0.5, step=3), rng())
    groups = family.parameter_groups()
    assert set(losses) == set(groups) == {"base", "detail"}
    for name, other in (("base", "detail"), ("detail", "base")):
        crossed = torch.autograd.grad(losses[name], groups[other], allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in crossed)


def test_the_second_stage_is_told_of_the_small_image_and_its_noise(make_case: Any) -> None:
    family = make_case("diffusion", "cascade").build()
    low, level = torch.rand(5, 1, 4, 4, generator=rng()), torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    noise = torch.randn(5, 1, 4, 4, generator=rng(1))
    planes = family.conditioning(low, level, noise)
    assert planes.shape == (5, 2, 8, 8)
    torch.testing.assert_close(planes[:, 1], level.view(-1, 1, 1).expand(-1, 8, 8))
    torch.testing.assert_close(planes[0], family.conditioning(low, 0 * level, 0 * noise)[0])
    assert not torch.allclose(planes[4], family.conditioning(low, 0 * level, 0 * noise)[4])


def test_the_cascade_samples_detail_around_its_base(make_case: Any) -> None:
    """A second stage that repeats what it was given shows the first stage's image."""
    family = make_case("diffusion", "cascade").build(condition_noise=0.0).eval()
    small = torch.rand(3, 1, 4, 4, generator=rng()) - 0.5
    family.base.forward = lambda x, *_: small
    family.detail.forward = lambda x, sigma_B, condition_B, planes: planes[:, :1]
    image = family.sampler()(*family.noise(3, rng()))
    torch.testing.assert_close(image, family.conditioning(small, torch.zeros(3), torch.zeros_like(small))[:, :1])


def test_steps_of_the_cascade_are_those_of_its_card() -> None:
    family = Cascade.build({"width": 16}, image_data(channels=1, height=8, width=8))
    sampler = family.sampler()
    assert len(sampler.base.rows_K8) + len(sampler.detail.rows_K8) == Cascade.card.steps
    assert Latent.card.steps == 2 * LatentConfig().steps - 1


@pytest.mark.parametrize("cls", [Latent, Cascade])
def test_small_images_get_a_narrow_network(cls: Any) -> None:
    widths = {side: cls.Config.defaults(image_data(channels=1, height=side, width=side)).get("width") for side in (8, 17)}
    assert widths == {8: 32, 17: None}
