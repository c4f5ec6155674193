"""The toys of benchmarks/toys.py: their densities are densities, what is measured tells truth from error, every family learns."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from specs import to_uint8

from benchmarks.planar.densities import LEVELS, PARTS, TOYS, Toy, to_points
from benchmarks.planar.measures import SAMPLES, energy, measure, train
from benchmarks.planar.picture import BINS, bands, draw, pack, true_shares, unpack
from components.core.arrays import Stored
from components.core.family import to_data_units
from components.evaluation.bootstrap import Bootstrap
from components.families import cards

ONE_EACH = {  # at least, and the items seen with which it gets there
    "autoencoder/plain": 200_000,
    "autoencoder/denoising": 300_000,
    "vae/gaussian": 1_000_000,
    "gan/dcgan": 1_500_000,
    "flow/glow": 300_000,
    "diffusion/edm": 300_000,
    "diffusion/ect": 2_000_000,
    "autoregressive/pixelcnn-pp": 200_000,
}
BRIDGES = {"vae/gaussian"}  # a continuous decoder of a prior without gaps
SLOW = {"diffusion/edm"}  # of those; the others nightly
WITH_LIKELIHOOD = sorted("/".join(key) for key, (card, _, _) in cards().items() if card.likelihood != "none")


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(params=list(TOYS))
def toy(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]


def test_the_density_integrates_to_one_and_the_masses_sum_to_one(toy: Toy) -> None:
    """The trapezoidal rule is exact to a millionth for Gaussians, at steps of one deviation."""
    axis = np.arange(-1.2, 1.2, toy.sigma)
    density = np.exp(toy.log_density(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)))
    assert density.sum() * toy.sigma**2 == pytest.approx(1, abs=1e-5)
    assert toy.masses().sum() == pytest.approx(1, abs=1e-12)
    assert toy.masses().min() >= 0


def test_a_mass_is_the_density_over_its_bin(toy: Toy) -> None:
    """At levels where there is something: the mean density over 5x5 places of the bin, times its area."""
    levels_N2 = to_points_levels(toy)
    offsets = (np.arange(5) - 2) / 5 / 127.5
    within = np.stack(np.meshgrid(offsets, offsets), -1).reshape(-1, 2)
    points = levels_N2[:, None] / 127.5 - 1 + within
    mean_N = np.exp(toy.log_density(points.reshape(-1, 2))).reshape(len(points), -1).mean(1)
    np.testing.assert_allclose(toy.masses()[tuple(levels_N2.T)], mean_N / 127.5**2, rtol=0.02)


def to_points_levels(toy: Toy) -> np.ndarray:
    return toy.images(60, seeded(1)).reshape(-1, 2).astype(np.int64)


def test_samples_follow_the_density(toy: Toy) -> None:
    """Their mean -log p is the entropy, each part has an eighth of them, and levels come as often as their masses say."""
    n = 5000
    images = toy.images(n, seeded())
    points = to_points(images)
    nats = -toy.log_density(points)
    entropy = toy.entropy_bits() * math.log(2) - 2 * math.log(127.5)
    assert nats.mean() == pytest.approx(entropy, abs=5 * nats.std() / math.sqrt(n) + 0.02)  # levels round: 0.02 at most
    shares = toy.near(points).mean(0)
    assert shares.sum() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(shares * PARTS, shares.sum(), atol=5 * math.sqrt(PARTS / n))
    first = np.bincount(images[..., 0].ravel(), minlength=LEVELS) / n
    assert np.abs(first.cumsum() - toy.masses().sum(1).cumsum()).max() < 2 / math.sqrt(n), "Kolmogorov's distance"


def test_the_energy_distance_is_one_for_the_truth_and_more_for_a_gaussian_of_its_moments(toy: Toy) -> None:
    real, again = (to_points(toy.images(1000, seeded(seed))) for seed in (1, 2))
    blob = seeded(3).multivariate_normal(real.mean(0), np.cov(real.T), 1000)
    boot = Bootstrap(seed=0)
    truth, wrong = energy(again, real, boot), energy(blob, real, boot)
    assert 0.1 < truth.value < 3
    assert wrong.low > truth.high


def test_a_missing_part_is_seen() -> None:
    ring = TOYS["ring"]
    points = to_points(ring.images(2000, seeded()))
    hits = ring.near(points[points[:, 0] < 0.5])  # all but the first Gaussian, whose centre is at (0.7, 0)
    assert hits.mean(0).argmin() == 0
    assert hits[:, 0].mean() < 0.02
    assert not ring.near(np.zeros((1, 2))).any(), "the middle of the ring belongs to nobody"


def test_the_histogram_survives_its_packing(toy: Toy) -> None:
    images = toy.images(SAMPLES, seeded())
    expected = np.histogram2d(*images.reshape(-1, 2).T, bins=BINS, range=[[-0.5, 255.5]] * 2)[0] / SAMPLES
    np.testing.assert_allclose(unpack(pack(images)), expected, atol=1e-6)
    assert true_shares(toy).sum() == pytest.approx(1)


@pytest.mark.slow
def test_the_picture_has_all_families_and_room_for_those_not_trained(tmp_path: Path) -> None:
    models = sorted("/".join(key) for key in cards())
    groups = bands(models)
    assert [model for group in groups for model in group] == models
    assert all(a[-1].split("/")[0] != b[0].split("/")[0] for a, b in pairwise(groups))
    toys = list(TOYS.values())
    shares = {(models[0], toy.name): true_shares(toy) for toy in toys}
    draw(shares, models, toys, tmp_path / "toys.png")
    assert (tmp_path / "toys.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "toys.png").stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in WITH_LIKELIHOOD if not model.startswith("diffusion/")])
def test_likelihoods_of_all_images_sum_to_one(model: str, tmp_path: Path) -> None:
    """Over all 65,536 images there are, after a few steps: it need not be good to be a likelihood.

    Without noise the sum is one. With noise (of a posterior, of dequantisation) its mean over the noise is one at most; that of
    one draw scatters by a percent. So no likelihood here can be below the entropy in expectation. That of diffusion estimates a
    bound by few steps of many, and the exponential of its noise has no such mean: tests/families/test_diffusion_bound.py.
    """
    family: Any = train(model, TOYS["ring"], tmp_path, items=20_000)[0]
    every = np.stack(np.meshgrid(np.arange(LEVELS), np.arange(LEVELS)), -1).reshape(-1, 1, 1, 2).astype(np.uint8)
    torch.manual_seed(0)
    with torch.no_grad():
        batches = [to_data_units(every[at : at + 8192], family.spec.item) for at in range(0, len(every), 8192)]
        total = float(torch.cat([family.log_prob(x_BCHW) for x_BCHW in batches]).double().exp().sum())
    if model.startswith("autoregressive/"):
        assert total == pytest.approx(1, abs=1e-4)
    else:
        assert 0.8 < total < 1.02


def is_recovered(images: Stored, *, near: float = 0.9) -> bool:
    """Nearly all samples at a mode, and each of the eight modes about as often as the others."""
    hits = TOYS["ring"].near(to_points(images))
    return bool(hits.mean(0).min() >= 0.08 and hits.any(1).mean() >= near)


def test_noise_a_gaussian_and_seven_modes_are_not_the_ring() -> None:
    ring = TOYS["ring"]
    real = ring.images(SAMPLES, seeded())
    points = to_points(real)
    blob = seeded(1).multivariate_normal(points.mean(0), np.cov(points.T), SAMPLES)
    assert is_recovered(real)
    assert not is_recovered(real[points[:, 0] < 0.6])
    assert not is_recovered(to_uint8(blob.astype(np.float32)[:, :, None, None]))
    assert not is_recovered(seeded(3).integers(LEVELS, size=(SAMPLES, 1, 1, 2)).astype(np.uint8))


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.nightly) for name in ONE_EACH]
)
def test_one_of_each_family_recovers_the_ring(model: str, tmp_path: Path) -> None:
    """By the trainer of every production and the variant's own defaults for such items."""
    assert {name.split("/")[0] for name in ONE_EACH} == {family for family, _ in cards()}
    ring = TOYS["ring"]
    family, _ = train(model, ring, tmp_path, items=ONE_EACH[model])
    images, metrics = measure(family, ring)
    assert is_recovered(images, near=0.7 if model in BRIDGES else 0.9)
    assert metrics["energy"].low < 3
    if "above_entropy" in metrics:
        assert metrics["above_entropy"].high > 0
        assert metrics["above_entropy"].value < 0.6
