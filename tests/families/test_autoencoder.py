"""The codes' moments are measured right, the sampler has them, and a denoising autoencoder removes what it was corrupted with."""

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


def weighted_moments(codes: list[Tensor], labels: list[Tensor], kind: int, *, decay: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of one class over all batches, each code weighing decay^age: from the definition."""
    z_BZ = torch.cat([z[of == kind] for z, of in zip(codes, labels, strict=True)]).double()
    ages = [torch.full((int((of == kind).sum()),), len(codes) - 1 - batch) for batch, of in enumerate(labels)]
    weight_B = decay ** torch.cat(ages).double()
    weight_B /= weight_B.sum()
    mean_Z = weight_B @ z_BZ
    apart_BZ = z_BZ - mean_Z
    return mean_Z, (weight_B[:, None] * apart_BZ).T @ apart_BZ


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_running_moments_are_those_of_all_codes_seen(decay: float) -> None:
    """Class 2 is missing from half of the batches and class 3 from all of them."""
    density = CodeDensity(classes=4, size=3, decay=decay)
    mix = normal(3, 3, seed=9)
    codes = [normal(40, 3, seed=seed) @ mix + seed for seed in range(6)]
    labels = [torch.arange(40) % (3 if batch % 2 else 2) for batch in range(6)]
    for z_BZ, of_B in zip(codes, labels, strict=True):
        density.measure(z_BZ, of_B)
    for kind in range(3):
        mean_Z, covariance_ZZ = weighted_moments(codes, labels, kind, decay=decay)
        torch.testing.assert_close(density.mean_RZ[kind].double(), mean_Z, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(density.covariance_RZZ[kind].double(), covariance_ZZ, atol=1e-3, rtol=1e-3)
    assert torch.equal(density.mean_RZ[3], torch.zeros(3))
    assert torch.equal(density.covariance_RZZ[3], torch.eye(3))


def test_codes_in_one_plane_have_a_factor() -> None:
    density = CodeDensity(classes=1, size=3, decay=0.9)
    density.measure(normal(1, 3).expand(5, 3), None)
    assert torch.isfinite(density.factor()).all()
    density.measure(normal(6, 1) * torch.tensor([1.0, 2.0, -1.0]), None)
    factor_ZZ = density.factor()[0]
    torch.testing.assert_close(factor_ZZ @ factor_ZZ.T, density.covariance_RZZ[0], atol=1e-3, rtol=1e-3)


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
    family.density.measure(z_BZ, labels_B if conditional else None)
    family.decoder = Shown()
    for kind in range(kinds):
        condition = (torch.full((20_000,), kind),) if conditional else ()
        drawn_BZ = family.sampler()(normal(20_000, 4, seed=2), torch.rand(20_000, 1), *condition).flatten(1)[:, :4] * 1000
        scale = float(drawn_BZ.std())
        torch.testing.assert_close(drawn_BZ.mean(0), family.density.mean_RZ[kind], atol=0.05 * scale, rtol=0)
        torch.testing.assert_close(drawn_BZ.T.cov(), family.density.covariance_RZZ[kind], atol=0.05 * scale**2, rtol=0)


def test_a_mixture_finds_its_clusters_and_their_shares() -> None:
    """Three clusters of 60, 30 and 10 % in each of two classes, those of the second class elsewhere."""
    density = CodeDensity(classes=2, size=2, decay=0.98, components=3)
    centres_R2 = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [20.0, 20.0], [26.0, 20.0], [20.0, 26.0]])
    rng = torch.Generator().manual_seed(0)
    for _ in range(400):
        labels_B = torch.randint(2, (100,), generator=rng)
        of_B = 3 * labels_B + torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 100, replacement=True, generator=rng)
        density.measure(centres_R2[of_B] + 0.5 * torch.randn(100, 2, generator=rng), labels_B)
    near_RR = torch.cdist(centres_R2, density.mean_RZ)
    found_R = near_RR.argmin(1)
    assert float(near_RR.min(1).values.max()) < 0.2
    assert sorted(found_R.tolist()) == [*range(6)]
    assert [row // 3 for row in found_R.tolist()] == [0, 0, 0, 1, 1, 1]
    shares_R = density.shares().flatten()[found_R]
    torch.testing.assert_close(shares_R, torch.tensor([0.6, 0.3, 0.1] * 2), atol=0.06, rtol=0)
    deviations_RZ = density.covariance_RZZ.diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(deviations_RZ, torch.full((6, 2), 0.5), atol=0.12, rtol=0)


def test_the_sampler_picks_components_by_their_shares(make_case: Any) -> None:
    family = make_case("autoencoder", "plain").build(components=2)
    family.density.count_R.copy_(torch.tensor([3.0, 1.0]))
    family.density.mean_RZ[1] = 100.0
    family.decoder = Shown()
    drawn_B = family.sampler()(normal(4000, 4), torch.rand(4000, 1, generator=torch.Generator().manual_seed(1)))[:, 0, 0, 0]
    assert float((drawn_B > 0.05).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_the_components_of_a_class_are_its_own(make_case: Any) -> None:
    """Three classes of two components each; the decoder shows which one was drawn."""
    family = make_case("autoencoder", "plain", conditional=True).build(components=2)
    family.density.count_R.copy_(torch.tensor([1.0, 1.0, 1.0, 3.0, 4.0, 1.0]))
    family.density.mean_RZ.copy_(100.0 * torch.arange(6)[:, None].expand(6, 4))
    family.density.covariance_RZZ.mul_(1e-4)
    family.decoder = Shown()
    pick_B1 = torch.rand(4000, 1, generator=torch.Generator().manual_seed(1))
    for kind, second in enumerate((0.5, 0.75, 0.2)):
        drawn_B = family.sampler()(normal(4000, 4), pick_B1, torch.full((4000,), kind))[:, 0, 0, 0] * 10
        assert set(drawn_B.round().int().tolist()) == {2 * kind, 2 * kind + 1}
        assert float((drawn_B > 2 * kind + 0.5).float().mean()) == pytest.approx(second, abs=0.03)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("conditional", [False, True])
def test_training_measures_the_codes_of_clean_images(make_case: Any, variant: str, conditional: bool) -> None:
    case = make_case("autoencoder", variant, conditional=conditional)
    family = case.build(components=1).train()
    batch = case.batch(24)
    family.losses(batch, torch.Generator().manual_seed(0))
    with torch.no_grad():
        z_BZ = family.encode(batch.images_BCHW, batch.labels_B)
    for kind in range(3 if conditional else 1):
        own = z_BZ if batch.labels_B is None else z_BZ[batch.labels_B == kind]
        torch.testing.assert_close(family.density.mean_RZ[kind], own.mean(0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(family.density.covariance_RZZ[kind], own.T.cov(correction=0), atol=1e-5, rtol=1e-4)
    before = {name: value.clone() for name, value in family.state_dict().items()}
    family.eval().losses(case.batch(24, seed=1), torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in family.state_dict().items())


def test_a_denoising_one_sees_corrupted_images_and_is_judged_by_clean_ones(make_case: Any) -> None:
    case = make_case("autoencoder", "denoising", side=16)
    family = case.build(noise=0.3, masked=0.25)
    seen: list[Tensor] = []
    family.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = case.batch(24)
    loss = family.losses(batch, torch.Generator().manual_seed(0))["model"]
    masked = seen[0] == -1
    assert float(masked.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float((seen[0] - batch.images_BCHW)[~masked].std()) == pytest.approx(0.3, rel=0.03)
    with torch.no_grad():
        z_BZ = family.encoder(seen[0])
        error = F.mse_loss(family.decoder(z_BZ), batch.images_BCHW) / case.spec.std**2
    penalty = 0.5 * family.config.code_weight * z_BZ.square().mean()
    assert loss.item() == pytest.approx((error + penalty).item(), rel=1e-5)


def test_without_corruption_it_is_the_plain_one(make_case: Any) -> None:
    plain, clean = make_case("autoencoder", "plain"), make_case("autoencoder", "denoising")
    one, two = plain.build(seed=3), clean.build(seed=3, noise=0.0, masked=0.0)
    first, second = (family.losses(plain.batch(), torch.Generator().manual_seed(0))["model"] for family in (one, two))
    assert torch.equal(first, second)


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
