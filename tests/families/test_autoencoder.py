"""Gaussians are fitted to the codes, the sampler draws from them; a denoising autoencoder takes corruption away."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.families.autoencoder import CodeDensity

VARIANTS = ("plain", "denoising")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_component_has_the_mean_of_its_class_and_the_covariance_of_all() -> None:
    """Codes of three classes at other places; of class 3 there are none."""
    density = CodeDensity(classes=4, size=3, components=1)
    z_NZ, labels_N = normal(600, 3) @ normal(3, 3, seed=9), torch.arange(600) % 3
    z_NZ += 5 * labels_N[:, None]
    density.fit(z_NZ, labels_N)
    own = [z_NZ[labels_N == kind] for kind in range(3)]
    common_ZZ = sum(z.T.cov(correction=0) for z in own) / 3
    for kind in range(4):
        mean_Z = own[kind].mean(0) if kind < 3 else z_NZ.mean(0)
        torch.testing.assert_close(density.mean_RZ[kind], mean_Z, atol=1e-4, rtol=1e-4)
        factor_ZZ = density.factor_RZZ[kind]
        floor = 1e-3 * float(common_ZZ.diagonal().mean()) * torch.eye(3)
        torch.testing.assert_close(factor_ZZ @ factor_ZZ.T, common_ZZ + floor, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "codes",
    [normal(1, 3).expand(50, 3), normal(50, 1) * torch.tensor([1.0, 2.0, -1.0]), normal(1, 3), torch.full((50, 3), torch.nan)],
)
def test_codes_without_a_volume_leave_a_density_to_draw_from(codes: Tensor) -> None:
    density = CodeDensity(classes=1, size=3, components=4)
    density.fit(codes, None)
    assert all(torch.isfinite(value).all() for value in density.buffers())
    assert float(density.share_KM.sum()) == pytest.approx(1)


@pytest.mark.parametrize(("codes", "size", "components"), [(30, 3, 1), (130, 3, 3), (130, 12, 2), (900, 3, 8)])
def test_few_codes_get_few_components(codes: int, size: int, components: int) -> None:
    """A component for each 40 codes, or four times as many as a code has numbers; few codes it would learn by heart."""
    density = CodeDensity(classes=1, size=size, components=8)
    density.fit(normal(codes, size), None)
    assert int((density.share_KM > 0).sum()) == components


class Shown(nn.Module):
    """A decoder that shows its code in the first pixels, small enough not to be clipped."""

    def forward(self, z: Tensor) -> Tensor:
        return F.pad(z / 1000, (0, 64 - z.shape[1])).view(-1, 1, 8, 8)


@pytest.mark.parametrize("conditional", [False, True])
def test_sampled_codes_have_the_measured_moments(make_case: Any, conditional: bool) -> None:
    family = make_case("autoencoder", "plain", conditional=conditional).build(components=1)
    kinds = 3 if conditional else 1
    labels_B = torch.arange(300) % kinds
    z_BZ = normal(300, 4) @ normal(4, 4, seed=1) * (1 + labels_B[:, None]) + 3 * labels_B[:, None]
    family.density.fit(z_BZ, labels_B if conditional else None)
    family.decoder = Shown()
    for kind in range(kinds):
        condition = (torch.full((20_000,), kind),) if conditional else ()
        drawn_BZ = family.sampler()(normal(20_000, 4, seed=2), torch.rand(20_000, 1), *condition).flatten(1)[:, :4] * 1000
        scale = float(drawn_BZ.std())
        torch.testing.assert_close(drawn_BZ.mean(0), family.density.mean_RZ[kind], atol=0.05 * scale, rtol=0)
        factor_ZZ = family.density.factor_RZZ[kind]
        torch.testing.assert_close(drawn_BZ.T.cov(), factor_ZZ @ factor_ZZ.T, atol=0.05 * scale**2, rtol=0)


def test_a_mixture_finds_its_clusters_and_their_shares() -> None:
    """Three clusters of 60, 30 and 10 % in each of two classes, those of the second class elsewhere."""
    density = CodeDensity(classes=2, size=2, components=3)
    centres_R2 = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [20.0, 20.0], [26.0, 20.0], [20.0, 26.0]])
    rng = torch.Generator().manual_seed(0)
    labels_N = torch.randint(2, (4000,), generator=rng)
    of_N = 3 * labels_N + torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 4000, replacement=True, generator=rng)
    density.fit(centres_R2[of_N] + 0.5 * torch.randn(4000, 2, generator=rng), labels_N)
    near_RR = torch.cdist(centres_R2, density.mean_RZ)
    found_R = near_RR.argmin(1)
    assert float(near_RR.min(1).values.max()) < 0.1
    assert sorted(found_R.tolist()) == [*range(6)]
    assert [row // 3 for row in found_R.tolist()] == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(density.share_KM.flatten()[found_R], torch.tensor([0.6, 0.3, 0.1] * 2), atol=0.03, rtol=0)
    covariance_RZZ = density.factor_RZZ @ density.factor_RZZ.mT
    torch.testing.assert_close(covariance_RZZ, 0.25 * torch.eye(2).expand(6, 2, 2), atol=0.08, rtol=0)


def test_a_component_that_is_not_in_use_is_never_drawn(make_case: Any) -> None:
    """Not even by the largest number below one, where the shares add up to a little less."""
    family = make_case("autoencoder", "plain").build(components=4)
    family.density.share_KM.copy_(torch.tensor([[0.3, 0.6999999, 0.0, 0.0]]))
    family.density.mean_RZ[2:] = torch.nan
    family.decoder = Shown()
    pick_B1 = torch.nextafter(torch.ones(1, 1), torch.zeros(1, 1))
    assert bool(torch.isfinite(family.sampler()(normal(1, 4), pick_B1)).all())


def test_the_sampler_picks_components_by_their_shares(make_case: Any) -> None:
    family = make_case("autoencoder", "plain").build(components=2)
    family.density.share_KM.copy_(torch.tensor([[0.75, 0.25]]))
    family.density.mean_RZ[1] = 100.0
    family.decoder = Shown()
    drawn_B = family.sampler()(normal(4000, 4), torch.rand(4000, 1, generator=torch.Generator().manual_seed(1)))[:, 0, 0, 0]
    assert float((drawn_B > 0.05).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_the_components_of_a_class_are_its_own(make_case: Any) -> None:
    """Three classes of two components each; the decoder shows which one was drawn."""
    family = make_case("autoencoder", "plain", conditional=True).build(components=2)
    family.density.share_KM.copy_(torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.8, 0.2]]))
    family.density.mean_RZ.copy_(100.0 * torch.arange(6)[:, None].expand(6, 4))
    family.density.factor_RZZ.mul_(1e-2)
    family.decoder = Shown()
    pick_B1 = torch.rand(4000, 1, generator=torch.Generator().manual_seed(1))
    for kind, second in enumerate((0.5, 0.75, 0.2)):
        drawn_B = family.sampler()(normal(4000, 4), pick_B1, torch.full((4000,), kind))[:, 0, 0, 0] * 10
        assert set(drawn_B.round().int().tolist()) == {2 * kind, 2 * kind + 1}
        assert float((drawn_B > 2 * kind + 0.5).float().mean()) == pytest.approx(second, abs=0.03)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("conditional", [False, True])
def test_it_is_calibrated_on_the_codes_of_clean_images(make_case: Any, variant: str, conditional: bool) -> None:
    case = make_case("autoencoder", variant, conditional=conditional)
    family = case.build(components=1).eval()
    batches = [case.batch(24, seed=seed) for seed in range(3)]
    with torch.no_grad():
        family.calibrate(iter(batches))
        z_NZ = torch.cat([family.encode(batch.x, batch.condition) for batch in batches])
    for kind in range(3 if conditional else 1):
        own = z_NZ if not conditional else z_NZ[torch.cat([batch.condition for batch in batches]) == kind]
        torch.testing.assert_close(family.density.mean_RZ[kind], own.mean(0), atol=1e-5, rtol=1e-4)


def test_a_denoising_one_sees_corrupted_images_and_is_judged_by_clean_ones(make_case: Any) -> None:
    case = make_case("autoencoder", "denoising", side=16)
    family = case.build(noise=0.3, masked=0.25)
    seen: list[Tensor] = []
    family.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = case.batch(24)
    loss = family.losses(batch, torch.Generator().manual_seed(0))["model"]
    masked = seen[0] == -1
    assert float(masked.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float((seen[0] - batch.x)[~masked].std()) == pytest.approx(0.3, rel=0.03)
    with torch.no_grad():
        z_BZ = family.encoder(seen[0])
        error = F.mse_loss(family.decoder(z_BZ), batch.x) / case.spec.std**2
    penalty = 0.5 * family.config.code_weight * z_BZ.square().mean()
    assert loss.item() == pytest.approx((error + penalty).item(), rel=1e-5)


def test_without_corruption_it_is_the_plain_one(make_case: Any) -> None:
    plain, clean = make_case("autoencoder", "plain"), make_case("autoencoder", "denoising")
    one, two = plain.build(seed=3), clean.build(seed=3, noise=0.0, masked=0.0)
    first, second = (family.losses(plain.batch(), torch.Generator().manual_seed(0))["model"] for family in (one, two))
    assert torch.equal(first, second)


@pytest.mark.slow
def test_a_trained_denoising_one_denoises(make_case: Any, train_a_little: Callable[..., None]) -> None:
    """Better than leaving the noise in, and better than a plain one of the same training."""
    noise = 0.5 * normal(48, 1, 8, 8, seed=5)
    errors = {}
    for variant, corruption in (("plain", {}), ("denoising", {"noise": 0.5, "masked": 0.0})):
        case = make_case("autoencoder", variant)
        family = case.build(**corruption)
        train_a_little(family, case, steps=60)
        x_BCHW = case.images(48, seed=999)
        with torch.no_grad():
            errors[variant] = float(F.mse_loss(family.eval().decode(family.encode(x_BCHW + noise)), x_BCHW))
    assert errors["denoising"] < 0.5 * float(noise.square().mean())
    assert errors["denoising"] < errors["plain"]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_trained_one_rebuilds_its_kind_and_no_other(make_case: Any, train_a_little: Callable[..., None], variant: str) -> None:
    case = make_case("autoencoder", variant)
    family = case.build()
    train_a_little(family, case, steps=200)
    family.eval()
    x_BCHW = case.images(48, seed=999)
    strange = (x_BCHW + 0.6 * (torch.arange(8)[:, None] // 4 * 2 - 1)).clamp(-1, 1)  # dark above, bright below
    with torch.no_grad():
        known_B, strange_B = ((family.decode(family.encode(x)) - x).square().flatten(1).mean(1) for x in (x_BCHW, strange))
    assert float(known_B.mean()) < 0.3 * float(x_BCHW.var(0, unbiased=False).mean())
    assert float((strange_B[:, None] > known_B).float().mean()) > 0.95
