"""What a denoiser is told besides the image and the noise level: a class under guidance, and how the image was augmented."""

from typing import Any

import pytest
import torch
from torch import Tensor

from components.families.diffusion.augment import AugmentConfig, augmented
from components.families.diffusion.network import Guided

PIXELS = ("edm", "ddpm")
ALL = ("edm", "ddpm", "latent", "cascade")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def awake(network: Any) -> Any:
    """A network whose last layer is no longer zero."""
    torch.nn.init.normal_(network.net.conv_out.weight, generator=rng(3))
    return network.eval()


def networks(family: Any) -> list[Any]:
    return [module for module in family.modules() if hasattr(module, "training_labels")]


@pytest.mark.parametrize("variant", PIXELS)
def test_guidance_is_the_linear_extrapolation_from_no_class(make_case: Any, variant: str) -> None:
    denoiser = awake(make_case("diffusion", variant, conditional=True).build(guidance=3.0).denoiser)
    x, time, classes = torch.randn(4, 1, 8, 8, generator=rng()), torch.full((4,), 5.0), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        told, untold = denoiser(x, time, classes), denoiser(x, time, torch.full((4,), 3))
        assert (told - untold).abs().max() > 1e-3
        for weight in (0.0, 1.0, 2.5):
            got = Guided(denoiser, weight=weight, none=3)(x, time, classes)
            torch.testing.assert_close(got, untold + weight * (told - untold), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", ALL)
def test_guidance_of_one_costs_nothing(make_case: Any, variant: str) -> None:
    """No class of none, no pass of twice the batch, no draw from the generator."""
    case = make_case("diffusion", variant, conditional=True)
    off, on = case.build(), case.build(guidance=2.0)
    assert not any(isinstance(module, Guided) for module in off.sampler().modules())
    assert len([module for module in on.sampler().modules() if isinstance(module, Guided)]) == len(networks(on))
    labels, state = torch.tensor([0, 1, 2]), rng()
    for network in networks(off):
        assert network.net.class_embedding.num_embeddings == 3
        assert torch.equal(network.training_labels(labels, state), labels)
    assert torch.equal(state.get_state(), rng().get_state())
    assert not any(
        isinstance(module, Guided) for module in make_case("diffusion", variant).build(guidance=2.0).sampler().modules()
    )


@pytest.mark.parametrize("variant", ALL)
def test_guidance_hides_its_share_of_the_labels(make_case: Any, variant: str) -> None:
    for network in networks(make_case("diffusion", variant, conditional=True).build(guidance=2.0, label_dropout=0.25)):
        labels = torch.arange(6000) % 3
        shown = network.training_labels(labels, rng())
        hidden = shown == 3
        assert float(hidden.float().mean()) == pytest.approx(0.25, abs=0.02)
        assert torch.equal(shown[~hidden], labels[~hidden])


def undone(moved_CHW: Tensor, done_P: Tensor, shift: int) -> Tensor:
    """The image before, as far as it was not pushed out, by what the planes say."""
    flipped, upturned, down, right = (
        done_P[0] > 0,
        done_P[1] > 0,
        round(float(done_P[2] * shift)),
        round(float(done_P[3] * shift)),
    )
    x = moved_CHW.roll((-down, -right), dims=(1, 2))
    x = x.flip(2) if flipped else x
    return x.flip(1) if upturned else x


def test_the_planes_say_what_was_done() -> None:
    x = torch.randn(200, 2, 7, 9, generator=rng())
    moved, planes = augmented(x, AugmentConfig(augment=0.5, shift=2), rng(1))
    assert planes is not None
    assert planes.shape == (200, 4, 7, 9)
    done = planes[:, :, 0, 0]
    assert all(0.3 < float(share) < 0.7 for share in (done[:, :2] == 1).float().mean(0))
    assert set(done[:, 2:].unique().tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    for before, after, told in zip(x, moved, done, strict=True):
        torch.testing.assert_close(undone(after, told, 2)[:, 2:-2, 2:-2], before[:, 2:-2, 2:-2], atol=0, rtol=0)
    untouched = (done == 0).all(1)
    assert untouched.any()
    assert torch.equal(moved[untouched], x[untouched])


def test_what_enters_at_the_edge_is_mirrored() -> None:
    x = torch.arange(25.0).view(1, 1, 5, 5).expand(64, -1, -1, -1)
    moved, planes = augmented(x, AugmentConfig(augment=1.0, flips=False, shift=1), rng())
    assert planes is not None
    down = moved[planes[:, 2, 0, 0] == 1]
    assert len(down)
    assert torch.equal(down[:, :, 0].sort(-1).values % 5, down[:, :, 2].sort(-1).values % 5)
    assert (moved[:, :, :, 0].min() >= 0) & (moved.max() <= 24)


@pytest.mark.parametrize("variant", PIXELS)
def test_augmentation_is_off_by_default_and_then_free(make_case: Any, variant: str) -> None:
    family = make_case("diffusion", variant).build()
    x, state = torch.rand(2, 1, 8, 8), rng()
    same, planes = augmented(x, family.config, state)
    assert same is x
    assert planes is None
    assert torch.equal(state.get_state(), rng().get_state())
    assert family.denoiser.net.conv_in.in_channels == 1


@pytest.mark.parametrize("variant", PIXELS)
def test_samples_are_asked_for_unaltered(make_case: Any, variant: str) -> None:
    """No planes are planes of zero, and planes matter."""
    family = make_case("diffusion", variant).build(augment=0.2, shift=1)
    denoiser = awake(family.denoiser)
    x, time = torch.randn(2, 1, 8, 8, generator=rng()), torch.full((2,), 3.0)
    with torch.no_grad():
        plain = denoiser(x, time)
        assert torch.equal(plain, denoiser(x, time, None, torch.zeros(2, 4, 8, 8)))
        assert not torch.allclose(plain, denoiser(x, time, None, torch.ones(2, 4, 8, 8)), atol=1e-3)
        assert family.sampler()(*family.noise(2, rng())).shape == (2, 1, 8, 8)
