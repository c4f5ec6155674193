"""Modulation against its definition, path length of a known generator, the mean style, and augmentation that adapts."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from specs import image_data
from torch import Tensor
from torch.nn import functional as F

from components.families.gan.adaptive import AdaptiveAugment, Transformation
from components.families.gan.style import PATH_INTERVAL, R1_INTERVAL, StyleGAN2, path_length, path_weight
from components.families.gan.style_networks import (
    Generator,
    Mapping,
    ModulatedConv2d,
    Sampler,
    Synthesis,
    activate,
    level_at,
    reached,
    resize,
)

EVERYTHING = get_args(Transformation)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed))


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(1234)  # not a seed of `normal`: weights and inputs must not be the same numbers


def modulated_weights(conv: ModulatedConv2d, x_BCHW: Tensor, w_BZ: Tensor) -> Tensor:
    """Equations 1 to 3 of arXiv:1912.04958 to the letter: each item is convolved with weights of its own."""
    out = []
    for x_CHW, style_C in zip(x_BCHW, conv.affine(w_BZ), strict=True):
        weight = style_C[None, :, None, None] * conv.plain.weight * conv.gain
        if conv.demodulate:
            weight = weight / torch.sqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)
        out.append(F.conv2d(x_CHW[None], weight, padding=conv.plain.padding))
    return torch.cat(out)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_scaling_activations_is_scaling_weights(seeded: None, kernel: int, demodulate: bool) -> None:
    conv = ModulatedConv2d(5, 7, kernel, latent=4, demodulate=demodulate).double()
    x_BCHW, w_BZ = normal(3, 5, 6, 9).double(), normal(3, 4, seed=1).double()
    expected = modulated_weights(conv, x_BCHW, w_BZ)
    torch.testing.assert_close(conv(x_BCHW, w_BZ), expected)
    parameters = list(conv.parameters())
    ours, theirs = (torch.autograd.grad(y.square().sum(), parameters) for y in (conv(x_BCHW, w_BZ), expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("loud", [0.01, 1.0, 30.0])
def test_demodulation_gives_unit_variance_whatever_the_style(seeded: None, loud: float) -> None:
    conv = ModulatedConv2d(16, 8, 3, latent=4)
    x_BCHW = normal(64, 16, 12, 12)
    with torch.no_grad():
        y_BCHW = conv(x_BCHW, loud * normal(1, 4, seed=1).expand(64, -1))[:, :, 1:-1, 1:-1]  # the border sees padding
        deviation_C = y_BCHW.std((0, 2, 3))
    torch.testing.assert_close(deviation_C, torch.ones(8), atol=0.08, rtol=0)


def test_activation_and_mapping_keep_the_mean_square(seeded: None) -> None:
    assert float(activate(normal(100_000)).square().mean()) == pytest.approx(1.04, rel=0.02)
    mapping = Mapping(512, depth=8, rate=0.01, classes=0)
    with torch.no_grad():
        assert float(mapping(100 * normal(64, 512)).square().mean()) == pytest.approx(1.04**8, rel=0.5)
        torch.testing.assert_close(mapping(3 * normal(5, 512)), mapping(normal(5, 512)), atol=1e-4, rtol=1e-4)


def test_a_layer_of_a_slower_rate_starts_the_same_and_moves_less(seeded: None) -> None:
    fast, slow = Mapping(8, depth=1, rate=1.0, classes=0), Mapping(8, depth=1, rate=0.01, classes=0)
    with torch.no_grad():
        slow.layers[0].plain.weight.copy_(fast.layers[0].plain.weight / 0.01)
        z = normal(6, 8)
        before = fast(z)
        torch.testing.assert_close(slow(z), before)
        for mapping in (fast, slow):
            mapping.layers[0].plain.weight += 0.1 * normal(8, 8, seed=2)
        assert float((slow(z) - before).norm() / (fast(z) - before).norm()) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (28, 28)])
def test_resizing_by_two_is_the_filter_1331(size: tuple[int, int]) -> None:
    row = torch.zeros(16)
    row[8] = 1.0
    smaller = resize(row.expand(1, 1, 16, 16), (8, 8))[0, 0, 0]
    larger = resize(row.expand(1, 1, 16, 16), (32, 32))[0, 0, 0]
    torch.testing.assert_close(larger[14:20], torch.tensor([0.0, 0.25, 0.75, 0.75, 0.25, 0.0]))
    torch.testing.assert_close(smaller[3:6], torch.tensor([0.125, 0.375, 0.0]))
    assert resize(normal(1, 1, 5, 7), size).shape[2:] == size


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 13, 3), (4, 4, 1), (5, 40, 1)])
def test_each_pixel_of_each_layer_has_its_noise(seeded: None, shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    synthesis = Synthesis(image_data(channels=channels, height=height, width=width), width=16, latent=4)
    for layer in synthesis.layers:
        torch.nn.init.ones_(layer.strength)
    noise_BN = normal(1, sum(h * w for h, w in synthesis.sizes)).requires_grad_()
    x_BCHW = synthesis(normal(1, len(synthesis.layers), 4, seed=1), noise_BN)
    assert x_BCHW.shape == (1, channels, height, width)
    (slope,) = torch.autograd.grad(x_BCHW.square().sum(), noise_BN)
    assert (slope != 0).all()


def test_path_length_of_a_linear_generator() -> None:
    """x = A w: J^T y = A^T y, so the mean square of its length is |A|^2; for an orthogonal A of scale c every |J| is c."""
    a_XZ = normal(48, 5)
    w_BZ = normal(2000, 5, seed=1).requires_grad_()
    length_B = path_length((w_BZ @ a_XZ.T).view(-1, 3, 4, 4), w_BZ, rng(2))
    expected_B = (torch.randn(2000, 3, 4, 4, generator=rng(2)).flatten(1) @ a_XZ).norm(dim=1)
    torch.testing.assert_close(length_B, expected_B)
    assert float(length_B.square().mean()) == pytest.approx(float(a_XZ.square().sum()), rel=0.05)


def test_path_length_has_a_gradient() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    w_BZ = normal(4, 5).requires_grad_()
    length_B = path_length((scale * w_BZ).view(-1, 5, 1, 1), w_BZ, rng())
    torch.testing.assert_close(torch.autograd.grad(length_B.sum(), scale)[0], length_B.sum().detach() / 3)


def test_the_path_penalty_is_heavier_when_lazy_and_its_mean_follows(make_case: Any) -> None:
    assert path_weight(image_data(channels=1, height=1024, width=1024)) == pytest.approx(math.log(2) / (2**20 * math.log(512)))
    case = make_case("gan", "style", conditional=True)
    family, plain = case.build(path_length=2.0), case.build(path_length=0.0)
    for step, due in ((0, True), (1, False), (PATH_INTERVAL, True)):
        before = family.path_mean.clone()
        batch = replace(case.batch(8), step=step)
        extra = (family.losses(batch, rng())["generator"] - plain.losses(batch, rng())["generator"]).detach()
        assert (float(extra) > 1e-6) == due
        assert bool(family.path_mean > before) == due
    family.path_mean.fill_(3.0)
    same, labels_B = rng(4), torch.tensor([0, 1, 2, 0])
    z_BZ, noise_BN = family.noise(4, same)
    w_BZ = family.generator.mapping(z_BZ, labels_B)
    length_B = path_length(family.generator.render(w_BZ, noise_BN), w_BZ, same).detach()
    penalty = family._path_penalty(4, labels_B, rng(4)).detach()
    assert float(family.path_mean) == pytest.approx(0.99 * 3.0 + 0.01 * float(length_B.mean()))
    assert float(penalty) == pytest.approx(float((length_B - family.path_mean).square().mean()))


def test_r1_is_lazy_and_as_heavy_as_its_interval(make_case: Any) -> None:
    case = make_case("gan", "style")
    family, plain = case.build(r1=0.5), case.build(r1=0.0)
    for step in (0, 1, R1_INTERVAL - 1, R1_INTERVAL):
        batch = replace(case.batch(8), step=step)
        extra = (family.losses(batch, rng())["discriminator"] - plain.losses(batch, rng())["discriminator"]).detach()
        real_BCHW = batch.x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(plain.discriminator(real_BCHW, None).sum(), real_BCHW)
        expected = R1_INTERVAL * 0.5 / 2 * float(slope.square().sum((1, 2, 3)).mean()) if step % R1_INTERVAL == 0 else 0.0
        assert float(extra) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert (family.rates()["discriminator"], plain.rates()["discriminator"]) == (16 / 17, 1.0)


def test_the_losses_by_hand(make_case: Any) -> None:
    family = make_case("gan", "style").build()
    real_B, fake_B = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    log = lambda score: math.log(1 + math.exp(score))  # noqa: E731
    assert float(family.generator_loss(real_B, fake_B)) == pytest.approx((log(-0.5) + log(3)) / 2)
    expected = (log(-2) + log(1)) / 2 + (log(0.5) + log(-3)) / 2
    assert float(family.discriminator_loss(real_B, fake_B)) == pytest.approx(expected)


@pytest.mark.parametrize("conditional", [False, True])
def test_truncation_goes_to_the_mean_style_of_the_class(make_case: Any, conditional: bool) -> None:
    case = make_case("gan", "style", conditional=conditional)
    family = case.build(truncation=0.0)
    with torch.no_grad():
        family.generate(6, case.labels(6), rng())
        assert (family.generator.mean_KZ.abs().sum(1) > 0).all()
        for seed in range(1, 400):
            z_BZ, labels_B = normal(6, 32, seed=seed), case.labels(6)
            family.generator.observe(family.generator.mapping(z_BZ, labels_B), labels_B)
    family.eval()
    z, noise, *condition = case.inputs(6)
    with torch.no_grad():
        every = family.generator.mapping(normal(6000, z.shape[1]), *(c.repeat(1000) for c in condition))
        groups = [every.view(1000, 6, -1)[:, k].mean(0) for k in range(3)] if conditional else [every.mean(0)]
        torch.testing.assert_close(family.generator.mean_KZ, torch.stack(groups), atol=0.12, rtol=0)
        sample = family.sampler()
        x_BCHW = sample(z, noise, *condition)
        assert torch.equal(x_BCHW, sample(normal(*z.shape, seed=7), noise, *condition)), "z still reaches the image"
        means = family.generator.mean_KZ[condition[0]] if conditional else family.generator.mean_KZ.expand(6, -1)
        torch.testing.assert_close(x_BCHW, family.generator.render(means, noise).clamp(-1, 1))
        half = Sampler(family.generator, truncation=0.5)(z, noise, *condition)
        middle = (means + family.generator.mapping(z, *condition)) / 2
        torch.testing.assert_close(half, family.generator.render(middle, noise).clamp(-1, 1))


def test_style_mixing_takes_the_later_layers_from_another_style(make_case: Any) -> None:
    case = make_case("gan", "style", side=16)
    family = case.build(style_mixing=1.0)
    seen: list[Tensor] = []
    family.generator.synthesis.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    family.generate(64, None, rng())
    (w_BLZ,) = seen
    same_BL = (w_BLZ == w_BLZ[:, :1]).all(2)
    assert same_BL.shape == (64, 5)
    firsts = same_BL.sum(1)
    assert set(firsts.tolist()) == {1, 2, 3, 4}, "the crossover is at any layer but the first"
    assert all(bool(row[:n].all()) and not bool(row[n:].any()) for row, n in zip(same_BL, firsts.tolist(), strict=True))
    for row, n in zip(w_BLZ, firsts.tolist(), strict=True):
        assert torch.equal(row[n:], row[-1:].expand(5 - n, -1))


def test_small_images_train_without_what_cifar_10_did_without() -> None:
    small, large = (StyleGAN2.build({}, image_data(channels=3, height=32, width=side)).config for side in (32, 33))
    assert (small.depth, small.path_length, small.style_mixing) == (2, 0.0, 0.0)
    assert (large.depth, large.path_length, large.style_mixing) == (8, 1.0, 0.9)


def adaptive(transformations: tuple[str, ...] = EVERYTHING, **options: float) -> AdaptiveAugment:
    return AdaptiveAugment(transformations, **({"target": 0.6, "limit": 1.0} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [(8, 8), (9, 13)])
@pytest.mark.parametrize("name", EVERYTHING)
def test_no_strength_changes_nothing_and_full_strength_changes_and_has_gradients(name: str, side: tuple[int, int]) -> None:
    module = adaptive((name,))
    x_BCHW = normal(32, 3, *side).requires_grad_()
    assert torch.equal(module(x_BCHW, rng()), x_BCHW)
    module.strength.fill_(1.0)
    seen = module(x_BCHW, rng())
    assert seen.shape == x_BCHW.shape
    changed_B = (seen != x_BCHW).flatten(1).any(1)
    assert changed_B.float().mean() > 0.2
    (slope,) = torch.autograd.grad((seen * normal(*seen.shape, seed=1)).sum(), x_BCHW)
    assert (slope.flatten(1).abs().sum(1) > 0).all()
    assert not torch.equal(seen, module(x_BCHW, rng(1)))


def test_all_of_them_together_let_second_gradients_through() -> None:
    module = adaptive()
    module.strength.fill_(1.0)
    x_BCHW = normal(6, 3, 8, 8).requires_grad_()
    (slope,) = torch.autograd.grad(module(x_BCHW, rng()).square().sum(), x_BCHW, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), x_BCHW)
    assert torch.isfinite(second).all()
    assert (second.flatten(1).abs().sum(1) > 0).all()


def test_each_is_skipped_as_often_as_the_strength_says() -> None:
    module = adaptive(("brightness",))
    module.strength.fill_(0.3)
    x_BCHW = torch.zeros(4000, 1, 2, 2)
    changed = (module(x_BCHW, rng()) != 0).flatten(1).any(1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("name", ["flip", "rotate"])
@pytest.mark.parametrize("strength", [0.5, 0.8])
def test_turning_does_not_leak(name: str, strength: float) -> None:
    """The image as it is stays the likeliest of all that it may turn into, so G has to match it, not a turned one."""
    module = adaptive((name,))
    module.strength.fill_(strength)
    x_CHW = normal(1, 4, 4)
    seen = module(x_CHW.expand(4000, 1, 4, 4), rng())
    turned = [x_CHW.flip(2)] if name == "flip" else [x_CHW.rot90(k, (1, 2)) for k in (1, 2, 3)]
    shares = [float((seen == one).flatten(1).all(1).float().mean()) for one in (x_CHW, *turned)]
    assert sum(shares) == pytest.approx(1)
    ways = len(shares)
    assert shares[0] == pytest.approx(1 - strength * (ways - 1) / ways, abs=0.03)
    assert all(share == pytest.approx(strength / ways, abs=0.03) for share in shares[1:])


def test_an_image_that_is_not_square_turns_by_half_only() -> None:
    module = adaptive(("rotate",))
    module.strength.fill_(1.0)
    x_CHW = normal(1, 4, 6)
    seen = module(x_CHW.expand(2000, 1, 4, 6), rng())
    shares = [float((seen == one).flatten(1).all(1).float().mean()) for one in (x_CHW, x_CHW.flip(1, 2))]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(0.5, abs=0.04)


def test_strength_follows_how_sure_the_discriminator_is() -> None:
    """Up while it is sure of the real images, down while it is not; by the images seen, after four batches, within [0, limit]."""
    module = adaptive()
    sure, unsure = torch.ones(10), torch.cat([torch.ones(7), -torch.ones(3)])  # E[sign] = 1 and 0.4, the target is 0.6
    track = []
    for _ in range(121):
        module.observe(sure, step=0.01, rises=True)
        track.append(float(module.strength))
    assert track[:9] == pytest.approx([0, 0, 0, 0, 0.04, 0.04, 0.04, 0.04, 0.08])
    assert track[-1] == 1.0
    for _ in range(120):
        module.observe(unsure, step=0.01, rises=False)
        track.append(float(module.strength))
    assert track[121 + 3] == pytest.approx(0.96)
    assert track[-1] == 0.0
    assert all(0 <= strength <= 1 for strength in track)
    capped = adaptive(limit=0.5)
    for _ in range(400):
        capped.observe(sure, step=0.01, rises=True)
    assert float(capped.strength) == 0.5


def test_a_discriminator_that_knows_the_data_by_heart_is_augmented(make_case: Any, train_a_little: Callable[..., None]) -> None:
    """In training the strength moves, and only there."""
    case = make_case("gan", "style")
    family = case.build(adaptive_target=-1.0, adaptive_share=0.9, adaptive_limit=1.0)
    family.discriminator.head.bias.data.fill_(5.0)  # certain of everything
    train_a_little(family, case, steps=9, n=8)
    grown = float(family.adaptive.strength)
    assert grown == pytest.approx(8 / 9 / 0.9), "moved twice in nine steps, by four of them"
    family.eval().losses(replace(case.batch(8), step=3), rng())
    assert float(family.adaptive.strength) == grown


def test_the_strength_and_the_means_are_saved(make_case: Any) -> None:
    state = make_case("gan", "style", conditional=True).build().state_dict()
    assert {"adaptive.strength", "adaptive.signs", "path_mean", "generator.mean_KZ"} <= set(state)
    assert isinstance(make_case("gan", "style").build().generator, Generator)


def test_the_level_rests_at_each_resolution_and_then_fades_in_the_next() -> None:
    levels = [level_at(progress, growing=0.8, top=2) for progress in (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1)]
    assert levels == pytest.approx([0, 0, 0, 0.5, 1, 1, 1, 1.5, 2, 2])
    assert level_at(0.0, growing=0.0, top=3) == 3
    assert [reached(level) for level in (0.0, 0.25, 1.0)] == [(0, 1.0), (1, 0.25), (1, 1.0)]


@pytest.fixture
def grown(make_case: Any) -> StyleGAN2:
    """4x4, 8x8 and 16x16."""
    torch.manual_seed(1234)
    family = make_case("gan", "style", side=16).build(growing=0.5).eval()
    assert family.generator.synthesis.sizes[::2] == [(4, 4), (8, 8), (16, 16)]
    return family


def test_what_is_faded_in_begins_as_the_lower_resolution_and_ends_as_the_higher(grown: StyleGAN2) -> None:
    """Of generated and of real images, and of D's scores; a little before and after a level there is no jump."""
    noise, real_BCHW = grown.noise(3, rng()), normal(3, 1, 16, 16)

    def at(level: float) -> tuple[Tensor, Tensor, Tensor]:
        grown._work_at(level)
        with torch.no_grad():
            fake_BCHW, seen_BCHW = grown.generator(*noise), grown._grown(real_BCHW)
            return fake_BCHW, seen_BCHW, grown.discriminator(seen_BCHW, None)

    (low, low_real, _), (begun, begun_real, begun_score) = at(0.0), at(1e-6)
    assert (low.shape[2:], low_real.shape[2:]) == ((4, 4), (4, 4))
    torch.testing.assert_close(begun, resize(low, (8, 8)), atol=1e-4, rtol=0)
    torch.testing.assert_close(begun_real, resize(low_real, (8, 8)), atol=1e-4, rtol=0)
    grown._work_at(0.0)
    with torch.no_grad():
        again = grown.discriminator(resize(begun_real, (4, 4)), None)
    torch.testing.assert_close(begun_score, again, atol=1e-4, rtol=0)
    for ours, theirs in zip(at(1.0 - 1e-6), at(1.0), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_it_grows_with_the_budget_and_draws_full_images_at_any_time(grown: StyleGAN2, make_case: Any) -> None:
    batch = make_case("gan", "style", side=16).batch(6)
    for progress, side in ((0.0, 4), (0.2, 8), (1.0, 16)):
        seen: list[Tensor] = []
        hook = grown.discriminator.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        losses = grown.train().losses(replace(batch, progress=progress), rng())
        hook.remove()
        assert {tuple(x.shape[2:]) for x in seen} == {(side, side)}
        assert all(torch.isfinite(loss) for loss in losses.values())
        with torch.no_grad():
            small_BCHW = grown.eval().generator(*grown.noise(2, rng()))
            x_BCHW = grown.sampler()(*grown.noise(2, rng()))
        assert small_BCHW.shape == (2, 1, side, side)
        assert torch.equal(x_BCHW, resize(small_BCHW, (16, 16)).clamp(-1, 1))
    assert float(grown.level) == 2
