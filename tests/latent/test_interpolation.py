"""A spherical path keeps to its sphere, turns at constant speed, and begins and ends where it should."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.core.errors import InputError
from components.latent.interpolation import between_items, between_seeds, framed, slerp
from components.latent.space import Items, LatentSpace, cloud
from components.training.sampling import TorchSampler

T = torch.linspace(0, 1, 11)


def two(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    return a, b


@pytest.mark.parametrize("shape", [(6,), (4, 2, 2), (64,)])
def test_a_path_begins_and_ends_at_its_ends(shape: tuple[int, ...]) -> None:
    a, b = two(*shape)
    path = slerp(a, b, T)
    assert path.shape == (11, *shape)
    torch.testing.assert_close(path[0], a)
    torch.testing.assert_close(path[-1], b)


def test_between_ends_of_one_norm_it_keeps_that_norm_and_turns_at_constant_speed() -> None:
    a, b = (5 * end / end.norm() for end in two(16))
    path = slerp(a, b, T).double()
    torch.testing.assert_close(path.norm(dim=1), torch.full((11,), 5.0, dtype=torch.float64), atol=1e-5, rtol=0)
    steps = torch.nn.functional.cosine_similarity(path[1:], path[:-1]).acos()
    total = torch.nn.functional.cosine_similarity(a, b, dim=0).acos().double()
    torch.testing.assert_close(steps, (total / 10).expand(10), atol=1e-4, rtol=1e-4)


def test_between_ends_of_different_norms_the_norm_goes_linearly() -> None:
    a, b = two(16)
    path = slerp(2 * a / a.norm(), 6 * b / b.norm(), T)
    torch.testing.assert_close(path.norm(dim=1), 2 + 4 * T)


def test_the_way_there_is_the_way_back() -> None:
    a, b = two(9, seed=3)
    torch.testing.assert_close(slerp(a, b, T), slerp(b, a, T).flip(0))


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0, 0.0])
def test_ends_in_one_line_with_the_origin_are_joined_straight(factor: float) -> None:
    a, _ = two(8)
    path = slerp(a, factor * a, T)
    torch.testing.assert_close(path, torch.lerp(a, factor * a, T[:, None]))


def test_the_circle_is_drawn_around_the_mean_of_the_codes(rotation: LatentSpace, train: Items, held_out: Items) -> None:
    """A rotation moves no angle and no length, so the path can be drawn in the images themselves."""
    ends = Items(held_out.images[:2])
    around = cloud(rotation.encode(train))
    path, told = between_items(rotation, ends, around, points=5)
    mean = train.images.astype(np.float64).mean(0)
    a, b = torch.from_numpy(ends.images - mean)
    expected = slerp(a, b, torch.linspace(0, 1, 5)).numpy() + mean
    assert np.abs(np.clip(expected, 0, 255) - path).max() <= 0.51
    assert np.array_equal(path[[0, -1]], ends.images)
    assert np.array_equal(framed(path, ends)[[0, -1]], ends.images)
    assert told.norms == pytest.approx((float(a.norm()) / 127.5, float(b.norm()) / 127.5), rel=1e-4)
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    assert np.cos(np.radians(told.angle_degrees)) == pytest.approx(cosine, abs=1e-5)


def test_norms_that_differ_are_said() -> None:
    from components.latent.interpolation import Interpolation

    assert "differ" not in Interpolation(angle_degrees=80, norms=(2.0, 2.05)).sentence
    assert "differ" in Interpolation(angle_degrees=80, norms=(2.0, 2.5)).sentence


@pytest.mark.parametrize("name", ["autoencoder/plain", "vae/gaussian", "diffusion/latent", "flow/glow", "gan/dcgan"])
@pytest.mark.parametrize("conditional", [False, True])
def test_between_seeds_it_begins_and_ends_at_their_samples(build: Any, name: str, conditional: bool) -> None:
    family = build(name, conditional=conditional)
    path, told = between_seeds(family, (3, 8), points=4, label=7)
    samples = TorchSampler(family, subject="torch:test")([3, 8], [7, 7] if conditional else None)
    assert path.shape == (4, 8, 8, 1)
    assert np.abs(path[[0, -1]].astype(int) - samples).max() <= 1
    assert 0 < told.angle_degrees < 180


def test_between_seeds_of_integer_codes_there_is_nothing(build: Any) -> None:
    with pytest.raises(InputError, match="vae/vq draws its samples with uniform noise"):
        between_seeds(build("vae/vq"), (0, 1), points=3)


def test_a_model_that_is_told_classes_is_told_that_of_the_nearer_end(build: Any, held_out: Items) -> None:
    space = LatentSpace(build("vae/gaussian", conditional=True))
    ends = Items(held_out.images[:2], np.array([4, 9]))
    path, _ = between_items(space, ends, cloud(space.encode(held_out)), points=4)
    assert np.array_equal(path[[0, -1]], space.rebuild(ends))
