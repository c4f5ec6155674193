"""A flow's density is one: inverse and Jacobian hold for any sides, its integral is one, and so is the sum of all masses."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from specs import image_data
from torch import Tensor, nn

from components.core.errors import BriefError
from components.core.family import Batch
from components.families import cards, find
from components.families.flow.dequantisation import Variational
from components.families.flow.layers import (
    ActNorm,
    Bijection,
    ChannelCoupling,
    CheckerboardCoupling,
    InvertibleConv,
    PlaceNorm,
    squeeze,
    unsqueeze,
)
from components.families.flow.networks import convolutions
from components.families.images import resized

VARIANTS = tuple(variant for family, variant in cards() if family == "flow")
SIZES = ((4, 4, 1), (3, 5, 1), (2, 3, 3), (7, 5, 2))  # height, width, channels; padding at one side, at both, at two scales
ONE_PLACE = ((1, 1, 2), (1, 1, 3))  # neither a chessboard nor a squeeze
TINY = {"width": 8, "depth": 2}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_network(channels_in: int, channels_out: int) -> nn.Module:
    return convolutions(channels_in, channels_out, width=8)


def own(height: int, width: int, channels: int) -> Tensor:
    """The image's own places after a squeeze."""
    return squeeze(torch.ones(1, channels, height, width))[0]


def shake(module: nn.Module, *, by: float = 0.1) -> Any:
    """No weight is left at the value that makes a layer the identity."""
    rng = seeded(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=rng))
    return module.eval()


def flow(variant: str, size: tuple[int, int, int], *, conditional: bool = False, by: float = 0.1, **config: Any) -> Any:
    height, width, channels = size
    spec = image_data(channels=channels, height=height, width=width, std=0.75, classes=("a", "b"), conditional=conditional)
    torch.manual_seed(0)
    return shake(find("flow", variant).build(TINY | config, spec), by=by)


def images(n: int, size: tuple[int, int, int], *, seed: int = 0) -> Tensor:
    height, width, channels = size
    return torch.randint(0, 256, (n, channels, height, width), generator=seeded(seed)) / 127.5 - 1


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det df/dx| of one item, f of a flat vector."""
    return torch.linalg.slogdet(torch.autograd.functional.jacobian(f, x))[1]


LAYERS: dict[str, Callable[[Tensor], Bijection]] = {
    "actnorm": ActNorm,
    "convolution": InvertibleConv,
    "board": lambda mask: CheckerboardCoupling(mask, make_network, odd=False, bound=2.0),
    "board-odd": lambda mask: CheckerboardCoupling(mask, make_network, odd=True, bound=2.0),
    "halves": lambda mask: ChannelCoupling(mask, make_network, odd=False, bound=2.0),
    "halves-odd": lambda mask: ChannelCoupling(mask, make_network, odd=True, bound=2.0),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_an_inverse_a_jacobian_and_leaves_padding_alone(name: str, size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    mask_CHW = own(*size)
    layer = shake(LAYERS[name](mask_CHW)).double()
    x_BCHW = torch.randn(3, *mask_CHW.shape, generator=seeded(), dtype=torch.float64) * mask_CHW
    with torch.no_grad():
        y_BCHW, log_det_B = layer(x_BCHW)
        back_BCHW = layer.inverse(y_BCHW)
    assert float((y_BCHW - x_BCHW).abs().max()) > 0.01, "an identity tests nothing"
    assert (y_BCHW[:, mask_CHW == 0] == 0).all()
    torch.testing.assert_close(back_BCHW, x_BCHW, atol=1e-8, rtol=0)
    places = mask_CHW.flatten().nonzero().squeeze(1)

    def of_own(values_D: Tensor) -> Tensor:
        whole = torch.zeros(mask_CHW.numel(), dtype=torch.float64).index_copy(0, places, values_D)
        return layer(whole.view(1, *mask_CHW.shape))[0].flatten()[places]

    for x, log_det in zip(x_BCHW, log_det_B.expand(3), strict=True):
        torch.testing.assert_close(log_det, jacobian(of_own, x.flatten()[places]), atol=1e-8, rtol=0)


@pytest.mark.parametrize("size", [*SIZES, (1, 2, 1), (6, 9, 3)])
def test_a_squeeze_moves_values_and_loses_none(size: tuple[int, int, int]) -> None:
    x_BCHW = images(2, size)
    assert torch.equal(unsqueeze(squeeze(x_BCHW), x_BCHW.shape[2:]), x_BCHW)
    assert int(own(*size).sum()) == math.prod(size)


@pytest.mark.parametrize("channels", [1, 4, 24])
def test_the_convolution_is_its_factors(channels: int) -> None:
    """log |det W| is the sum of log s; W^-1 W = I; a rotation at first; a frozen inverse is the live one."""
    torch.manual_seed(0)
    layer = InvertibleConv(torch.ones(channels, 2, 3)).double()
    eye = torch.eye(channels, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer.weight() @ layer.weight().T, eye, atol=1e-5, rtol=0)
        shake(layer, by=0.05)
        torch.testing.assert_close(torch.linalg.slogdet(layer.weight())[1], layer.log_s_C.sum(), atol=1e-8, rtol=0)
        torch.testing.assert_close(layer.inverse_weight() @ layer.weight(), eye, atol=1e-8, rtol=0)
        y_BCHW = torch.randn(2, channels, 2, 3, generator=seeded(), dtype=torch.float64)
        live = layer.inverse(y_BCHW)
        layer.freeze()
        assert torch.equal(layer.inverse(y_BCHW), live)


@pytest.mark.parametrize("size", SIZES)
def test_actnorm_makes_the_first_batch_standard(size: tuple[int, int, int]) -> None:
    """Mean 0 and deviation 1 over the image's own places of each channel, whatever the scale and shift of the batch."""
    mask_CHW = own(*size)
    x_BCHW = (5 + 0.03 * torch.randn(64, *mask_CHW.shape, generator=seeded())) * mask_CHW
    y_BCHW = ActNorm(mask_CHW).fit(x_BCHW)
    for channel, mask_HW in zip(y_BCHW.unbind(1), mask_CHW > 0, strict=True):
        values = channel[:, mask_HW]
        assert float(values.mean()) == pytest.approx(0, abs=1e-3)
        assert float(values.std(unbiased=False)) == pytest.approx(1, abs=2e-3)


def test_each_place_is_standard_in_the_first_batch_but_for_those_that_hardly_vary() -> None:
    x_BCHW = 3 + 2 * torch.randn(64, 1, 2, 3, generator=seeded())
    x_BCHW[:, :, 0, 0] = 7.0
    y_BCHW = PlaceNorm((1, 2, 3)).fit(x_BCHW)
    deviation_HW = y_BCHW.std(0, unbiased=False)[0]
    torch.testing.assert_close(y_BCHW.mean(0), torch.zeros(1, 2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(deviation_HW.flatten()[1:], torch.ones(5), atol=1e-3, rtol=0)
    assert float(y_BCHW[:, :, 0, 0].abs().max()) < 1e-4
    with torch.no_grad():
        surprise = PlaceNorm((1, 2, 3))
        surprise.fit(x_BCHW)
        x_BCHW[0, 0, 0, 0] += 2.0
        assert 5 < float(surprise(x_BCHW)[0][0, 0, 0, 0]) < 12, "one deviation of the others is ten of a place that never varied"


@pytest.mark.parametrize("conditional", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("size", [*SIZES, *ONE_PLACE])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_flow_has_an_inverse_and_a_jacobian(variant: str, size: tuple[int, int, int], conditional: bool) -> None:
    family = flow(variant, size, conditional=conditional)
    labels = (torch.tensor([0, 1, 1]),) if conditional else ()
    x_BCHW = images(3, size)
    with torch.no_grad():
        z_BD = family.encode(x_BCHW, *labels)
        torch.testing.assert_close(family.decode(z_BD, *labels), x_BCHW, atol=1e-4, rtol=0)
    assert z_BD.shape == (3, math.prod(size))
    exact = copy.deepcopy(family).double()
    y_BCHW = torch.rand(3, *x_BCHW.shape[1:], generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        log_density_B = exact.log_density(y_BCHW, *labels)
    for index, y in enumerate(y_BCHW):
        label = tuple(each[index : index + 1] for each in labels)
        encode = lambda flat, y=y, label=label: exact.encode(  # noqa: E731
            ((256 * flat - 128) / 127.5).view(1, *y.shape), *label
        ).flatten()
        log_normal = -0.5 * encode(y.flatten()).square().sum() - 0.5 * math.prod(size) * math.log(2 * math.pi)
        torch.testing.assert_close(log_density_B[index], log_normal + jacobian(encode, y.flatten()), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("alpha", "size"), [(0.05, (1, 2, 1)), pytest.param(None, (1, 2, 1), marks=pytest.mark.slow), (None, (1, 1, 2))]
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_density_integrates_to_one(variant: str, alpha: float | None, size: tuple[int, int, int]) -> None:
    """Over all values of two pixels or channels, by the midpoint rule on v = logit(alpha + (1 - 2 alpha) y), or on y itself."""
    depth = 1 if size[1] > 1 else 2  # so that each channel of one place moves
    family = flow(variant, size, alpha=alpha, depth=depth)
    step = 0.1
    axis = torch.arange(-11.95, 12, step, dtype=torch.float64)
    y_axis, slope = axis, torch.ones_like(axis)
    if alpha is not None:
        y_axis = (torch.sigmoid(axis) - alpha) / (1 - 2 * alpha)
        slope = torch.sigmoid(axis) * torch.sigmoid(-axis) / (1 - 2 * alpha)
    y_BCHW = torch.cartesian_prod(y_axis, y_axis).view(-1, *family.spec.shape)
    with torch.no_grad():
        density = family.double().log_density(y_BCHW).exp()
    assert float((density * torch.outer(slope, slope).flatten()).sum()) * step**2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dequantisation", [pytest.param("uniform", marks=pytest.mark.slow), "variational"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_masses_of_all_images_sum_to_no_more_than_one(variant: str, dequantisation: str) -> None:
    """All 65,536 images of two pixels, after some training on a few of them."""
    family = flow(variant, (1, 2, 1), dequantisation=dequantisation, depth=1).train()
    few_BCHW = (torch.tensor([[40, 200], [90, 90], [255, 0], [0, 60]]) / 127.5 - 1).view(4, 1, 1, 2).repeat(16, 1, 1, 1)
    optimizer = torch.optim.Adam(family.parameters(), 2e-2)
    rng = seeded()
    for _ in range(50):
        optimizer.zero_grad()
        family.losses(Batch(few_BCHW), rng)["model"].backward()
        optimizer.step()
    values = torch.arange(256) / 127.5 - 1
    all_BCHW = torch.cartesian_prod(values, values).view(-1, 1, 1, 2)
    with torch.no_grad():
        one, other = (family.eval().log_prob(all_BCHW, rng=rng, draws=1).double() for _ in range(2))
        few_B = family.log_prob(few_BCHW[:4])
    assert 0.2 < float(one.exp().sum()) < 1.02  # of one draw the mass in expectation, of 65,536 all but its sum
    assert float(((one + other) / 2).exp().sum()) <= 1.01, "the mean of logarithms is below the logarithm of the mass"
    assert float(few_B.mean()) > -math.log(65_536) + 0.5, "nothing was learned"


def test_variational_dequantisation_is_a_density_on_the_unit_cube() -> None:
    """log q(u|x) is that of the noise less the log determinant of eps -> u, and starts near 0: uniform."""
    spec = image_data(channels=1, height=2, width=3)
    torch.manual_seed(0)
    module = Variational(spec, width=8, depth=1, bound=2.0)
    x_BCHW = images(200, (2, 3, 1))
    with torch.no_grad():
        u_BCHW, log_q_B = module(x_BCHW, seeded())
    assert 0 < float(u_BCHW.min()) < 0.05
    assert 0.95 < float(u_BCHW.max()) < 1
    assert float(log_q_B.abs().mean()) < 0.5

    shake(module).double()
    x = x_BCHW[:1].double()
    features = module.features(x)
    eps = torch.randn(6, generator=seeded(2), dtype=torch.float64)
    push = lambda flat: torch.sigmoid(module.couplings(1.7 * flat.view(1, 1, 2, 3), features)[0]).flatten()  # noqa: E731
    expected = (-0.5 * eps**2 - 0.5 * math.log(2 * math.pi)).sum() - jacobian(push, eps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda *_, **__: eps.view(1, 1, 2, 3))
        u, log_q = module(x, seeded())
    torch.testing.assert_close(log_q[0], expected, atol=1e-8, rtol=0)
    torch.testing.assert_close(u.flatten(), push(eps), atol=1e-12, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_lowers_bits_per_dim_of_images_not_seen(
    variant: str, dequantisation: str, make_case: Any, train_a_little: Callable[..., None]
) -> None:
    case = make_case("flow", variant)
    family = case.build(dequantisation=dequantisation)

    def bits() -> float:
        with torch.no_grad():
            return -float(family.eval().log_prob(case.images(32, seed=99)).mean()) / (64 * math.log(2))

    before = bits()
    train_a_little(family, case, steps=1)  # the start from the data, and one update
    started = bits()
    train_a_little(family, case, steps=40)
    assert bits() < started - 0.05 < before


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_first_batch_of_a_training_sets_the_start(variant: str, make_case: Any) -> None:
    """Also in a process that goes on from a saved state; never in evaluation."""
    case = make_case("flow", variant)
    family, resumed = case.build(), case.build(seed=5)
    fresh = copy.deepcopy(family.state_dict())
    family.eval().losses(case.batch(), seeded())
    assert all(torch.equal(value, fresh[name]) for name, value in family.state_dict().items())
    family.train().losses(case.batch(), seeded())
    started = copy.deepcopy(family.state_dict())
    assert not all(torch.equal(value, fresh[name]) for name, value in started.items())
    resumed.load_state_dict(started)
    for each in (family, resumed):
        each.train().losses(Batch(-case.images(6, seed=3)), seeded())
        assert all(torch.equal(value, started[name]) for name, value in each.state_dict().items())


def test_the_convolution_keeps_single_precision_where_networks_run_in_half() -> None:
    torch.manual_seed(0)
    layer = InvertibleConv(torch.ones(4, 2, 3))
    x_BCHW = torch.randn(2, 4, 2, 3, generator=seeded())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y_BCHW, _ = layer(x_BCHW)
        back_BCHW = layer.inverse(y_BCHW)
    assert y_BCHW.dtype == torch.float32
    torch.testing.assert_close(back_BCHW, x_BCHW, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_sampler_decodes_noise_of_its_temperature(variant: str) -> None:
    family = flow(variant, (5, 4, 1), temperature=0.7)
    (z_BD,) = family.noise(4, seeded())
    with torch.no_grad():
        torch.testing.assert_close(family.sampler()(z_BD), family.decode(0.7 * z_BD), atol=1e-5, rtol=0)


def test_the_data_sets_the_defaults_and_the_sides_limit_the_scales() -> None:
    digits, photos = (image_data(channels=1, height=32, width=32, std=std) for std in (0.75, 0.5))
    built = {(name, spec.std): find("flow", name).build(TINY, spec).config for name in VARIANTS for spec in (digits, photos)}
    assert {key: config.scales for key, config in built.items() if key[1] == 0.75} == {("realnvp", 0.75): 4, ("glow", 0.75): 3}
    assert all((config.alpha is None) == (key[1] == 0.5) for key, config in built.items())
    assert [find("flow", "glow").Config.defaults(resized(digits, width=side, height=8)) for side in (16, 17)] == [
        {"alpha": 0.05, "width": 32, "scales": 2},
        {"alpha": 0.05, "scales": 3},
    ]
    with pytest.raises(BriefError, match="scales: 9 is too many for 32x32 pixels; allowed: 1 to 5"):
        find("flow", "glow").build({"scales": 9}, digits)
