"""The bound is one: masses sum to one, and the bound stays below a likelihood computed by quadrature."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from components.families.code_density import CodeDensity
from components.families.vae import GaussianVAE

VALUES = torch.arange(256.0) / 127.5 - 1  # every 8-bit value in data units


@pytest.mark.parametrize("log_scale", [-9.0, -4.0, -2.0, 0.5])
@pytest.mark.parametrize("mean", [-1.4, -0.98, 0.0, 0.37, 1.2])
def test_the_masses_of_all_values_sum_to_one(make_case: Any, log_scale: float, mean: float) -> None:
    family = make_case("vae", "gaussian", side=4).build()
    family.log_scale_C.data.fill_(log_scale)
    x = VALUES.view(256, 1, 1, 1)
    log_mass = family._log_px(x, torch.full_like(x, mean)).detach()
    assert float(log_mass.exp().sum()) == pytest.approx(1, abs=1e-4)
    assert (log_mass <= 1e-6).all()


def prior_of(family: Any) -> Any:
    """What the sampler draws codes from, as a distribution of torch's."""
    density = family.density
    if density is None:
        return distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    kinds = distributions.MultivariateNormal(density.mean_RZ, scale_tril=density.factor_RZZ)
    return distributions.MixtureSameFamily(distributions.Categorical(density.share_KM[0]), kinds)


@torch.no_grad()
def exact(family: Any, x_BCHW: Tensor) -> Tensor:
    """log p(x) = log of the integral of p(x|z) p(z) over two latents, on a grid far finer than the decoder bends."""
    axis = torch.linspace(-6, 6, 61)
    z_GZ = torch.cartesian_prod(axis, axis)
    log_weight_G = prior_of(family).log_prob(z_GZ) + 2 * math.log(float(axis[1] - axis[0]))
    means = family.decoder(z_GZ)
    return torch.stack([torch.logsumexp(family._log_px(x[None], means) + log_weight_G, 0) for x in x_BCHW])


@pytest.mark.parametrize("components", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_the_bound_is_below_the_likelihood_and_nears_it(
    make_case: Any, train_a_little: Callable[..., None], components: int
) -> None:
    """Of the model that is sampled: with the prior that was fitted, where one is."""
    case = make_case("vae", "gaussian", side=4)
    family = case.build(latent=2, components=components)
    family.log_scale_C.data.fill_(-0.5)  # broad masses, so that the grid resolves p(x|z)
    train_a_little(family, case, steps=10, rate=1e-3)
    family.eval()
    with torch.no_grad():
        family.calibrate(case.batch(96, seed=seed) for seed in range(3))
    assert components == 0 or bool((family.density.share_KM > 0).all())
    x_BCHW = case.images(6)
    log_px_B = exact(family, x_BCHW)
    with torch.no_grad():
        bounds = [
            torch.stack([family.log_prob(x_BCHW, rng=torch.Generator().manual_seed(seed), draws=draws) for seed in range(25)])
            for draws in (1, 8, 64)
        ]
    spreads = [bound.std(0).mean() / 5 for bound in bounds]
    one, eight, many = (bound.mean(0) for bound in bounds)
    assert (one <= log_px_B + 3 * spreads[0]).all()
    assert (many <= log_px_B + 3 * spreads[2] + 1e-3).all()
    assert one.mean() < eight.mean() <= many.mean() + spreads[2]
    assert float((log_px_B - many).abs().max()) < 0.2
    assert float((log_px_B - one).mean()) > 0.05, "a bound that is exact with one draw tests nothing"


class Linear(GaussianVAE):
    """x = W z + b + s e with orthogonal columns of W: log p(x) is a Gaussian's, and the posterior is one that q can be."""

    deviation = 0.3

    def _log_px(self, x_BCHW: Tensor, mean_BCHW: Tensor) -> Tensor:
        return torch.distributions.Normal(mean_BCHW, self.deviation).log_prob(x_BCHW).flatten(1).sum(1)

    def posterior(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean_BZ = (x_BCHW.flatten(1) - self.decoder.shift_D) @ self.decoder.weight_DZ / (self.length**2 + self.deviation**2)
        logvar = math.log(self.deviation**2 / (self.length**2 + self.deviation**2))
        return self.wrong * mean_BZ, torch.full_like(mean_BZ, logvar)

    length, wrong = 1.5, 1.0


class LinearDecoder(torch.nn.Module):
    def __init__(self, length: float) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.weight_DZ = length * torch.linalg.qr(torch.randn(16, 3, generator=rng))[0]
        self.shift_D = torch.randn(16, generator=rng)

    def forward(self, z_BZ: Tensor) -> Tensor:
        return (z_BZ @ self.weight_DZ.T + self.shift_D).view(-1, 1, 4, 4)


@pytest.mark.parametrize("wrong", [1.0, 0.7])
def test_the_bound_of_a_linear_gaussian_model_reaches_its_likelihood(make_case: Any, wrong: float) -> None:
    """E[ELBO] = log p(x) where q is the posterior, and log p(x) - KL(q || p(z|x)) where it is not."""
    case = make_case("vae", "gaussian", side=4)
    family = Linear(GaussianVAE.configure({**case.config, "latent": 3}, case.spec), case.spec)
    family.decoder, family.wrong = LinearDecoder(family.length), wrong
    x_BCHW = family.decoder(torch.randn(5, 3)) + family.deviation * torch.randn(5, 1, 4, 4)
    weight_DZ = family.decoder.weight_DZ
    covariance_DD = weight_DZ @ weight_DZ.T + family.deviation**2 * torch.eye(16)
    log_px_B = torch.distributions.MultivariateNormal(family.decoder.shift_D, covariance_DD).log_prob(x_BCHW.flatten(1))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        mean_BZ, logvar_BZ = family.posterior(x_BCHW)
        terms = [family._terms(x_BCHW, None, rng) for _ in range(4000)]
    bound_B = torch.stack([log_px - kl for log_px, kl in terms]).mean(0)
    missed_B = 0.5 * ((1 - 1 / wrong) * mean_BZ).square().div(logvar_BZ.exp()).sum(1)
    torch.testing.assert_close(bound_B, log_px_B - missed_B, atol=0.08, rtol=1e-3)
    assert float(missed_B.mean()) > 0.3 or wrong == 1
    one_B = family.log_prob(x_BCHW, draws=1) if wrong == 1 else log_px_B
    torch.testing.assert_close(one_B, log_px_B, atol=1e-3, rtol=1e-4)  # every draw has the same weight


def test_the_loss_is_the_bound_when_the_warm_up_is_over(make_case: Any) -> None:
    case = make_case("vae", "gaussian")
    family = case.build()
    rng = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    with torch.no_grad():
        start, half, end = (float(family.losses(case.batch(progress=p), rng())["model"]) for p in (0.0, 0.05, 0.1))
        log_px_B, kl_B = family._terms(case.images(6), None, rng())
    assert end == pytest.approx(float((kl_B - log_px_B).mean()) / 64, rel=1e-5)
    assert start == pytest.approx(float(-log_px_B.mean()) / 64, rel=1e-5)
    assert half == pytest.approx((start + end) / 2, rel=1e-5)


def test_the_kl_term_is_that_of_torch(make_case: Any) -> None:
    case = make_case("vae", "gaussian")
    family = case.build()
    with torch.no_grad():
        mu, logvar = family.posterior(case.images(6))
        kl_B = family._terms(case.images(6), None, torch.Generator())[1]
    q, p = torch.distributions.Normal(mu, (0.5 * logvar).exp()), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(kl_B, torch.distributions.kl_divergence(q, p).sum(1), atol=1e-4, rtol=1e-4)


def test_a_trained_one_reconstructs_better_than_the_mean_image(make_case: Any, train_a_little: Callable[..., None]) -> None:
    case = make_case("vae", "gaussian")
    family = case.build()
    train_a_little(family, case, steps=40)
    x_BCHW = case.images(48, seed=999)
    with torch.no_grad():
        back = family.eval().decode(family.encode(x_BCHW))
    assert float(((back - x_BCHW) ** 2).mean()) < 0.3 * float(x_BCHW.var(0, unbiased=False).mean())


def test_beta_changes_the_loss_and_not_the_bound(make_case: Any) -> None:
    case = make_case("vae", "beta")
    plain, heavy = make_case("vae", "gaussian").build(seed=4).eval(), case.build(seed=4).eval()
    assert heavy.config.beta > 1
    x_BCHW = case.images(6)
    rng = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    with torch.no_grad():
        assert torch.equal(plain.log_prob(x_BCHW), heavy.log_prob(x_BCHW))
        log_px_B, kl_B = heavy._terms(x_BCHW, None, rng())
        loss = heavy.losses(case.batch(), rng())["model"].item()
    assert loss == pytest.approx((4 * kl_B - log_px_B).mean().item() / 64, rel=1e-5)


def test_the_capacity_grows_and_is_what_the_kl_term_is_drawn_to(make_case: Any) -> None:
    case = make_case("vae", "beta")
    family = case.build(capacity=6.0, capacity_share=0.5, beta=10.0).eval()
    rng = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    with torch.no_grad():
        log_px, kl = (term.mean().item() for term in family._terms(case.images(6), None, rng()))
        losses = [family.losses(case.batch(progress=p), rng())["model"].item() * 64 + log_px for p in (0.0, 0.25, 0.5, 1.0)]
    assert losses == pytest.approx([10 * abs(kl - c) for c in (0.0, 3.0, 6.0, 6.0)], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [1.0, 5.0])
def test_the_latents_carry_the_capacity(make_case: Any, train_a_little: Callable[..., None], capacity: float) -> None:
    case = make_case("vae", "beta")
    family = case.build(capacity=capacity, capacity_share=0.5, beta=100.0)
    train_a_little(family, case, steps=100)
    with torch.no_grad():
        kl_B = family.eval()._terms(case.images(48, seed=999), None, torch.Generator().manual_seed(0))[1]
    assert float(kl_B.mean()) == pytest.approx(capacity, abs=0.7)


def test_active_units_are_those_whose_means_vary_with_the_image(make_case: Any) -> None:
    case = make_case("vae", "gaussian")
    family = case.build(latent=5).eval()
    x_BCHW = case.images(200)
    family.encoder.head.weight.data[:5] *= 100
    assert family.active_units(x_BCHW) == 5
    family.encoder.head.weight.data[[0, 3]] = 0  # collapsed: the same for every image, wherever it lies
    family.encoder.head.bias.data[0] = 7
    assert family.active_units(x_BCHW) == 3
    family.encoder.head.weight.data[1] *= 1e-4  # it varies, by next to nothing
    assert family.active_units(x_BCHW) == 2


@pytest.mark.parametrize("conditional", [False, True])
def test_the_fitted_prior_is_the_aggregate_posterior(
    make_case: Any, train_a_little: Callable[..., None], conditional: bool
) -> None:
    """It explains codes of other images than those it was fitted to better than N(0, I) does, and so the bound is higher."""
    case = make_case("vae", "gaussian", conditional=conditional)
    family = case.build(beta=0.1)
    train_a_little(family, case, steps=40)
    family.eval()
    batch = case.batch(240, seed=999)
    rng = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    with torch.no_grad():
        z_BZ = family._draw(batch, rng())
        before_B, bound_B = family.log_prior(z_BZ, batch.condition), family.log_prob(batch.x, batch.condition)
        family.calibrate(case.batch(96, seed=seed) for seed in range(8))
        after_B, higher_B = family.log_prior(z_BZ, batch.condition), family.log_prob(batch.x, batch.condition)
    torch.testing.assert_close(before_B, distributions.Normal(0.0, 1.0).log_prob(z_BZ).sum(1))
    assert float((after_B - before_B).mean()) > 0.5
    assert float((higher_B - bound_B).mean()) > 0.5


@pytest.mark.parametrize(("components", "between"), [pytest.param(0, True, marks=pytest.mark.slow), (20, False)])
def test_samples_are_of_the_classes_and_not_of_what_lies_between(
    make_case: Any, train_a_little: Callable[..., None], components: int, between: bool
) -> None:
    """Three brightnesses 0.6 apart: a normal prior fills the gaps of the aggregate posterior."""
    case = make_case("vae", "gaussian")
    family = case.build(components=components)
    train_a_little(family, case, steps=120)
    family.eval()
    with torch.no_grad():
        family.calibrate(case.batch(96, seed=seed) for seed in range(8))
        drawn = family.sampler()(*family.noise(600, torch.Generator().manual_seed(0)))
    away_N = (drawn.flatten(1).mean(1, keepdim=True) - torch.tensor([-0.6, 0.0, 0.6])).abs().min(1).values
    assert (float((away_N > 0.15).float().mean()) > 0.1) == between


def test_the_density_of_a_mixture_is_that_of_torch() -> None:
    """Of each class its own, with a component that is not in use."""
    density = CodeDensity(classes=2, size=3, components=2)
    rng = torch.Generator().manual_seed(0)
    density.mean_RZ.copy_(torch.randn(4, 3, generator=rng))
    density.factor_RZZ.copy_(
        torch.randn(4, 3, 3, generator=rng).tril(-1) + torch.diag_embed(torch.rand(4, 3, generator=rng) + 0.5)
    )
    density.share_KM.copy_(torch.tensor([[0.3, 0.7], [1.0, 0.0]]))
    density.factor_RZZ[3] = 0
    z_BZ, labels_B = 2 * torch.randn(40, 3, generator=rng), torch.arange(40) % 2
    kinds = [distributions.MultivariateNormal(density.mean_RZ[row], scale_tril=density.factor_RZZ[row]) for row in range(3)]
    first = torch.logaddexp(kinds[0].log_prob(z_BZ) + math.log(0.3), kinds[1].log_prob(z_BZ) + math.log(0.7))
    torch.testing.assert_close(density.log_prob(z_BZ, labels_B), torch.where(labels_B == 0, first, kinds[2].log_prob(z_BZ)))


@pytest.mark.parametrize(("side", "latent"), [(1, 2), (3, 9), (8, 16), (28, 32), (64, 64)])
def test_there_are_as_many_latents_as_images_of_a_side_use(make_case: Any, side: int, latent: int) -> None:
    for variant in ("gaussian", "beta"):
        case = make_case("vae", variant, side=side)
        assert case.cls.configure({}, case.spec).latent == latent


def test_a_checkpoint_of_before_draws_as_it_did(make_case: Any) -> None:
    """Its recipe names no mixture, its weights have none: codes of N(0, I), straight into the decoder."""
    case = make_case("vae", "gaussian")
    family = case.cls(case.cls.recorded({"latent": 5, "width": 16}), case.spec).eval()
    assert not [name for name in family.state_dict() if name.startswith("density")]
    z_BZ = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert [noise.name for noise in family.noise_inputs()] == ["z"]
    assert torch.equal(family.sampler()(z_BZ), family.decode(z_BZ))


def test_a_reading_leaves_the_same_prior_again(make_case: Any) -> None:
    case = make_case("vae", "gaussian")
    family = case.build(components=3).eval()
    with torch.no_grad():
        family.calibrate(case.batch(96, seed=seed) for seed in range(2))
        first = {name: buffer.clone() for name, buffer in family.density.named_buffers()}
        torch.manual_seed(5)
        family.calibrate(case.batch(96, seed=seed) for seed in range(2))
    assert all(torch.equal(buffer, first[name]) for name, buffer in family.density.named_buffers())
