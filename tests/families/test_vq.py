"""The codebook follows its clusters, no code stays dead, the gradient passes straight through, the prior is a distribution."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor

from components.core.family import Batch
from components.families.vq import Quantiser, VQAutoencoder, VQConfig, straight_through
from components.families.vqvae import VQVAE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def clusters(n: int, *, seed: int = 0) -> Tensor:
    """[n, 2, 2, 2]: outputs of an encoder in four tight clusters on the corners of a square."""
    corners_42 = torch.tensor([[-3.0, -3.0], [-3.0, 3.0], [3.0, -3.0], [3.0, 3.0]])
    which_Bhw = torch.randint(4, (n, 2, 2), generator=generator(seed))
    return corners_42[which_Bhw].permute(0, 3, 1, 2) + 0.1 * normal(n, 2, 2, 2, seed=seed)


def on_the_corners(**options: Any) -> Quantiser:
    """A quantiser whose four entries are alive and near the four clusters."""
    quantiser = Quantiser(codes=4, size=2, **options)
    quantiser.codebook_KD.copy_(torch.tensor([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]]))
    quantiser.count_K.fill_(50.0)
    quantiser.sum_KD.copy_(50 * quantiser.codebook_KD)
    return quantiser


def test_a_code_is_the_nearest_entry() -> None:
    quantiser = Quantiser(codes=37, size=5)
    z_BDhw = normal(6, 5, 3, 4)
    codes_Bhw = quantiser.nearest(z_BDhw)
    distance_BhwK = (z_BDhw.permute(0, 2, 3, 1)[..., None, :] - quantiser.codebook_KD).square().sum(-1)
    assert torch.equal(codes_Bhw, distance_BhwK.argmin(-1))
    assert torch.equal(quantiser.look_up(codes_Bhw)[2, :, 1, 3], quantiser.codebook_KD[codes_Bhw[2, 1, 3]])


def test_the_gradient_passes_straight_through() -> None:
    z, e = normal(4, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    out = straight_through(z, e)
    torch.testing.assert_close(out, e)
    weight = normal(4, 3, seed=2)
    (weight * out).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, weight)
    assert e.grad is None


def test_without_memory_the_codebook_is_the_means_of_its_clusters() -> None:
    quantiser = on_the_corners(decay=0.0)
    z_BDhw = clusters(30)
    codes_N = quantiser.fit(z_BDhw, generator()).flatten()
    flat_ND = z_BDhw.permute(0, 2, 3, 1).reshape(-1, 2)
    for code in range(4):
        torch.testing.assert_close(quantiser.codebook_KD[code], flat_ND[codes_N == code].mean(0))


def test_the_codebook_is_the_moving_mean_of_its_clusters() -> None:
    """From the definition: each vector ever assigned weighs decay^age, and the first entry as much as fifty of them."""
    decay, quantiser = 0.8, on_the_corners(decay=0.8)
    sums_KD, counts_K = quantiser.sum_KD.double(), quantiser.count_K.double()
    for seed in range(30):
        z_BDhw = clusters(10, seed=seed)
        flat_ND = z_BDhw.permute(0, 2, 3, 1).reshape(-1, 2).double()
        codes_N = quantiser.fit(z_BDhw, generator(seed)).flatten()
        for code in range(4):
            own = flat_ND[codes_N == code]
            sums_KD[code] = decay * sums_KD[code] + (1 - decay) * own.sum(0)
            counts_K[code] = decay * counts_K[code] + (1 - decay) * len(own)
    torch.testing.assert_close(quantiser.codebook_KD.double(), sums_KD / counts_K[:, None], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(quantiser.codebook_KD.abs(), torch.full((4, 2), 3.0), atol=0.2, rtol=0)


def test_dead_codes_revive_on_the_data() -> None:
    """Two of four entries are far from everything: they take over clusters that shared an entry."""
    quantiser = on_the_corners(decay=0.9)
    quantiser.codebook_KD.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0], [100.0, 100.0], [-100.0, 100.0]]))
    quantiser.sum_KD.copy_(50 * quantiser.codebook_KD)
    used = [len(quantiser.fit(clusters(10, seed=seed), generator(seed)).unique()) for seed in range(80)]
    assert used[0] == 2
    assert used[-1] == 4
    assert quantiser.codebook_KD.abs().max() < 4
    assert float(quantiser.perplexity()) > 3


def test_no_code_is_left_behind_by_an_encoder_that_moves_on() -> None:
    """As it does in its first steps: within 60 batches all codes are where the data went, at the decay of the defaults."""
    quantiser = Quantiser(codes=8, size=2, decay=0.99)
    quantiser.fit(clusters(10), generator())
    for seed in range(60):
        quantiser.fit(100 + clusters(10, seed=seed), generator(seed))
    assert float(quantiser.codebook_KD.min()) > 90
    assert float(quantiser.perplexity()) > 4


def test_the_first_batch_places_all_codes_on_itself() -> None:
    quantiser = Quantiser(codes=8, size=2, decay=0.999)
    z_BDhw = clusters(10)
    quantiser.fit(z_BDhw, generator())
    flat_ND = z_BDhw.permute(0, 2, 3, 1).reshape(-1, 2)
    assert torch.cdist(quantiser.codebook_KD, flat_ND).min(1).values.max() < 0.05


@pytest.mark.parametrize(("counts", "expected"), [([5, 5, 5, 5], 4), ([0, 9, 0, 0], 1), ([1, 1, 0, 0], 2)])
def test_perplexity_is_the_number_of_codes_in_use(counts: list[float], expected: float) -> None:
    quantiser = Quantiser(codes=4, size=2)
    quantiser.count_K.copy_(torch.tensor(counts, dtype=torch.float32))
    assert float(quantiser.perplexity()) == pytest.approx(expected)


@pytest.fixture
def autoencoder() -> VQAutoencoder:
    torch.manual_seed(0)
    return VQAutoencoder(VQConfig(width=16, codes=32, latent=4), image_data(channels=3, height=9, width=13))


def test_codes_are_integers_on_the_grid(autoencoder: VQAutoencoder) -> None:
    x_BCHW = normal(5, 3, 9, 13).clamp(-1, 1)
    codes_Bhw = autoencoder.encode(x_BCHW)
    assert autoencoder.grid == (3, 4)
    assert codes_Bhw.shape == (5, 3, 4)
    assert codes_Bhw.dtype == torch.int64
    assert 0 <= int(codes_Bhw.min()) <= int(codes_Bhw.max()) < 32
    back_BCHW = autoencoder.decode(codes_Bhw)
    assert back_BCHW.shape == x_BCHW.shape
    assert back_BCHW.abs().max() <= 1


def test_the_loss_is_reconstruction_and_commitment(autoencoder: VQAutoencoder) -> None:
    x_BCHW = normal(5, 3, 9, 13).clamp(-1, 1)
    autoencoder.eval()
    with torch.no_grad():
        z_BDhw = autoencoder.encoder(x_BCHW)
        e_BDhw = autoencoder.quantiser.look_up(autoencoder.encode(x_BCHW))
        expected = (autoencoder.decoder(e_BDhw) - x_BCHW).square().mean() / 0.5**2 + 0.25 * (z_BDhw - e_BDhw).square().mean()
        assert autoencoder.loss(x_BCHW, generator()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_only_training_moves_the_codebook(autoencoder: VQAutoencoder) -> None:
    x_BCHW = normal(5, 3, 9, 13).clamp(-1, 1)
    before = {name: value.clone() for name, value in autoencoder.named_buffers()}
    autoencoder.eval().loss(x_BCHW, generator())
    assert all(torch.equal(value, before[name]) for name, value in autoencoder.named_buffers())
    autoencoder.train().loss(x_BCHW, generator())
    assert not any(torch.equal(value, before[name]) for name, value in autoencoder.named_buffers())


@pytest.mark.slow
def test_a_trained_one_reconstructs_with_many_codes(make_case: Any, train_a_little: Callable[..., None]) -> None:
    case = make_case("vae", "vq")
    family = case.build(autoencoder_share=0.99)
    x_BCHW = case.images(48, seed=999)
    train_a_little(family, case, steps=80, rate=6e-3)
    with torch.no_grad():
        back = family.eval().decode(family.encode(x_BCHW))
    assert float((back - x_BCHW).square().mean()) < 0.3 * float(x_BCHW.var(0, unbiased=False).mean())
    assert 8 < float(family.autoencoder.quantiser.perplexity()) <= family.config.codes


def every_map(codes: int, h: int, w: int) -> Iterator[Tensor]:
    return (torch.tensor(row).view(h, w) for row in torch.cartesian_prod(*[torch.arange(codes)] * (h * w)).tolist())


@pytest.fixture
def enumerable() -> VQVAE:
    """Three codes on a grid of 2x2, whose prior is far from uniform."""
    torch.manual_seed(0)
    config = {"width": 16, "codes": 3, "latent": 2, "prior_width": 16, "depth": 2}
    family = VQVAE.build(config, image_data(channels=1, height=4, width=4))
    assert isinstance(family, VQVAE)
    with torch.no_grad():
        for parameter in family.prior.parameters():
            parameter.mul_(3)
    return family.eval()


def chances(family: VQVAE) -> Tensor:
    """p of all 81 maps of codes, by the chain rule."""
    maps_Mhw = torch.stack([*every_map(3, 2, 2)])
    with torch.no_grad():
        log_MN = family.prior.log_prob(maps_Mhw[:, None], None).double().flatten(1)
    return log_MN.sum(1).exp()


def test_the_priors_chances_sum_to_one(enumerable: VQVAE) -> None:
    chances_M = chances(enumerable)
    assert float(chances_M.sum()) == pytest.approx(1, abs=1e-5)
    assert float(chances_M.max()) > 3 / 81, "a prior that is uniform tests nothing"


def test_the_sampler_draws_from_the_prior(enumerable: VQVAE) -> None:
    drawn: list[Tensor] = []
    enumerable.autoencoder.decode = lambda codes_Bhw: drawn.append(codes_Bhw) or torch.zeros(1)  # type: ignore[assignment, func-returns-value]
    n = 40_000
    with torch.no_grad():
        enumerable.sampler()(torch.rand(n, 2, 2, generator=generator()))
    index_N = (drawn[0].flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
    frequency_M = torch.bincount(index_N, minlength=81) / n
    expected_M = chances(enumerable)
    error_M = (frequency_M - expected_M).abs() / (expected_M / n).sqrt().clamp(min=1e-4)
    assert float(error_M.max()) < 5


def test_a_uniform_number_of_one_is_still_a_code(enumerable: VQVAE) -> None:
    with torch.no_grad():
        x_BCHW = enumerable.sampler()(torch.stack([torch.zeros(2, 2), torch.full((2, 2), math.nextafter(1, 0))]))
    assert torch.isfinite(x_BCHW).all()


@pytest.mark.nightly
def test_the_prior_learns_the_codes_of_the_data(make_case: Any, train_a_little: Callable[..., None]) -> None:
    """Its cross-entropy falls well below that of guessing all codes alike."""
    case = make_case("vae", "vq")
    family = case.build()
    train_a_little(family, case, steps=100)
    x_BCHW = case.images(48, seed=999)
    loss = family.eval().losses(Batch(x_BCHW), generator())["prior"].item()
    assert loss < 0.8 * math.log(family.config.codes)
