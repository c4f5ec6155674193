"""The networks of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), for images of any side.

    w = f(z, class),   s = A w + b                                      mapping network; style of a layer
    y_o = (v_o * (s x)) / sqrt(sum_ik s_i^2 v_oik^2 + eps)              modulation and demodulation (eq. 1 to 3)

The activations are scaled, not the weights v, which is the same and needs no convolution of its own for each item. Images of all
resolutions are summed; D is residual (section 4.1). Resizing by two is bilinear: the papers' filter [1, 3, 3, 1].

What G multiplies by stands in torch's own layers (`plain`), used as it is, so an adapter can be laid beside each; the weights
that demodulation divides by are then the adapted ones.

Both can grow (Karras et al. 2018, arXiv:1710.10196, section 2): at `level` n they work at resolution n, counted from the lowest,
and between n - 1 and n the new one is faded in.

B batch, C channels, H height, W width, Z latent size, L layers, K classes (1 without), N noise values, O channels of an output.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from components.core.layers import effective_weight
from components.core.records import DataSpec
from components.families.blocks import fold, folded, unfold
from components.families.dense import one_place
from components.families.gan.layers import BatchDeviation, pyramid
from components.families.gan.minibatch import SIZE, MinibatchDiscrimination
from components.families.images import image_of
from components.runtime.processes import sum_over_processes

MEAN_RATE = 0.01  # at which the mean style moves


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the mean square."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def normalise(x_BZ: Tensor) -> Tensor:
    """To a mean square of one."""
    return x_BZ * torch.rsqrt(x_BZ.square().mean(1, keepdim=True) + 1e-8)


def resize(x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinearly; of an image that shrinks, each value is a mean over all that it covers."""
    if tuple(x_BCHW.shape[2:]) == size:
        return x_BCHW
    if size[0] < x_BCHW.shape[2]:  # in single precision: torch has no bfloat16 for this on CPU
        return F.interpolate(x_BCHW.float(), size=size, mode="bilinear", antialias=True).to(x_BCHW.dtype)
    return F.interpolate(x_BCHW, size=size, mode="bilinear")


def level_at(progress: float, *, growing: float, top: int) -> float:
    """The level after a share of the budget: each resolution is trained for a while, then the next is faded in for as long, until
    `growing` of the budget; `top` after that."""
    if progress >= growing:
        return float(top)
    level, within = divmod(progress / growing * top, 1)
    return level + max(0.0, 2 * within - 1)


def reached(level: float) -> tuple[int, float]:
    """The highest resolution of a level, from 0, and the share, over 0 to 1, with which it is in."""
    highest = math.ceil(level)
    return highest, 1 - (highest - level)


class EqualLinear(nn.Module):
    """Weights of unit variance, scaled when used, so that all learn at one pace (arXiv:1710.10196, section 4.1)."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.plain = skip_init(nn.Linear, inputs, outputs, bias=False)
        nn.init.normal_(self.plain.weight, std=1 / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.plain(x * self.gain) + self.bias * self.rate
        return y


class EqualConv2d(nn.Module):
    """The same for a convolution of D that keeps the sides."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.gain, self.padding = 1 / math.sqrt(channels_in * kernel**2), kernel // 2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(x_BCHW, self.weight * self.gain, self.bias, padding=self.padding)


class ModulatedConv2d(nn.Module):
    """A convolution whose weights are scaled by each item's style and then, if `demodulate`, to unit norm for each output."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, latent: int, demodulate: bool = True) -> None:
        super().__init__()
        self.plain = skip_init(nn.Conv2d, channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        nn.init.normal_(self.plain.weight)
        self.affine = EqualLinear(latent, channels_in, bias=1.0)
        self.gain, self.demodulate = 1 / math.sqrt(channels_in * kernel**2), demodulate

    def forward(self, x_BCHW: Tensor, w_BZ: Tensor) -> Tensor:
        style_BC = self.affine(w_BZ) * self.gain
        y_BCHW: Tensor = self.plain(x_BCHW * style_BC[:, :, None, None])
        if not self.demodulate:
            return y_BCHW
        square_OC = effective_weight(self.plain).square().sum((2, 3))
        scale_BO = torch.rsqrt(F.linear(style_BC.square(), square_OC) + 1e-8)
        return y_BCHW * scale_BO[:, :, None, None]


class Mapping(nn.Module):
    """z_BZ (and class_B) -> w_BZ: dense layers on the normalised latent beside the normalised embedding of the class."""

    def __init__(self, latent: int, *, depth: int, rate: float, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, latent) if classes else None
        inputs = [latent * (2 if classes else 1)] + [latent] * (depth - 1)
        self.layers = nn.ModuleList(EqualLinear(n, latent, rate=rate) for n in inputs)

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        h = normalise(z_BZ)
        if self.embed is not None:
            h = torch.cat([h, normalise(self.embed(condition_B))], dim=1)
        for layer in self.layers:
            h = activate(layer(h))
        return h


class StyledLayer(nn.Module):
    """Modulated convolution, one noise value a pixel, bias, activation."""

    def __init__(self, channels_in: int, channels_out: int, *, latent: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(channels_in, channels_out, kernel, latent=latent)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x_BCHW: Tensor, w_BZ: Tensor, noise_B1HW: Tensor) -> Tensor:
        return activate(self.conv(x_BCHW, w_BZ) + self.strength * noise_B1HW + self.bias[:, None, None])


class Synthesis(nn.Module):
    """w_BLZ, noise_BN -> x_BCHW: one layer on a learned constant, then two for each resolution, up to that of `level`.

    noise_BN is one value for each pixel of each layer, layer after layer; `sizes` are the sides of the layers.
    """

    level: float

    def __init__(self, spec: DataSpec, *, width: int, latent: int, kernel: int = 3) -> None:
        super().__init__()
        levels, widths = pyramid(width, spec)
        levels, widths = levels[::-1], widths[::-1]
        self.level = float(len(levels) - 1)
        self.constant = nn.Parameter(torch.randn(1, widths[0], *levels[0]))
        self.sizes = levels[:1] + [size for size in levels[1:] for _ in range(2)]
        outputs = widths[:1] + [channels for channels in widths[1:] for _ in range(2)]
        inputs = [widths[0], *outputs[:-1]]
        self.layers = nn.ModuleList(
            StyledLayer(*ends, latent=latent, kernel=kernel) for ends in zip(inputs, outputs, strict=True)
        )
        self.to_image = nn.ModuleList(
            ModulatedConv2d(channels, image_of(spec).channels, 1, latent=latent, demodulate=False) for channels in widths
        )
        self.bias_C = nn.Parameter(torch.zeros(image_of(spec).channels))

    def forward(self, w_BLZ: Tensor, noise_BN: Tensor) -> Tensor:
        h = self.constant.expand(w_BLZ.shape[0], -1, -1, -1)
        x_BCHW = self.bias_C.view(1, -1, 1, 1).expand(w_BLZ.shape[0], -1, *self.sizes[0])
        noises = noise_BN.split([height * width for height, width in self.sizes], dim=1)
        highest, share = reached(self.level)
        for index, (layer, size, noise) in enumerate(zip(self.layers, self.sizes, noises, strict=True)):
            if index % 2 == 1:  # the first of a resolution
                h, x_BCHW = resize(h, size), resize(x_BCHW, size)
            h = layer(h, w_BLZ[:, index], noise.unflatten(1, (1, *size)))
            if index % 2 == 0:  # the last
                detail = self.to_image[index // 2](h, w_BLZ[:, index])
                x_BCHW = x_BCHW + (detail if index // 2 < highest else share * detail)
                if index // 2 == highest:
                    break
        return x_BCHW


class Generator(nn.Module):
    """z_BZ, noise_BN (and class_B) -> x_BCHW, of any range. It holds the running mean of each class's styles."""

    mean_KZ: Tensor

    def __init__(
        self, spec: DataSpec, *, width: int, patch: int, latent: int, depth: int, mapping_rate: float, dense: bool = False
    ) -> None:
        super().__init__()
        classes = len(spec.classes) if spec.conditional else 0
        self.mapping = Mapping(latent, depth=depth, rate=mapping_rate, classes=classes)
        seen = one_place(spec) if dense else folded(spec, patch)
        self.synthesis = Synthesis(seen, width=width, latent=latent, kernel=1 if dense else 3)
        self.unfold = nn.Sequential(*([nn.Flatten(), nn.Unflatten(1, spec.shape)] if dense else unfold(spec, patch)))
        self.size = image_of(spec).height, image_of(spec).width
        self.register_buffer("mean_KZ", torch.zeros(max(classes, 1), latent))

    def forward(self, z_BZ: Tensor, noise_BN: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return self.render(self.mapping(z_BZ, condition_B), noise_BN)

    def render(self, w_BZ: Tensor, noise_BN: Tensor) -> Tensor:
        """Images of one style in all layers, x_BCHW."""
        return self.render_mixed(w_BZ[:, None].expand(-1, self.layers, -1), noise_BN)

    def render_mixed(self, w_BLZ: Tensor, noise_BN: Tensor) -> Tensor:
        """Images of a style for each layer."""
        x_BCHW: Tensor = self.unfold(self.synthesis(w_BLZ, noise_BN))
        return x_BCHW

    @property
    def layers(self) -> int:
        return len(self.synthesis.layers)

    @torch.no_grad()
    def observe(self, w_BZ: Tensor, condition_B: Tensor | None) -> None:
        """Move the mean of each class that is in the batch."""
        classes_B = torch.zeros(len(w_BZ), dtype=torch.int64, device=w_BZ.device) if condition_B is None else condition_B
        member_KB = F.one_hot(classes_B, len(self.mean_KZ)).T.to(self.mean_KZ.dtype)
        count_K1 = sum_over_processes(member_KB.sum(1, keepdim=True))
        seen_KZ = sum_over_processes(member_KB @ w_BZ.to(self.mean_KZ.dtype)) / count_K1.clamp(min=1)
        self.mean_KZ += MEAN_RATE * (count_K1 > 0) * (seen_KZ - self.mean_KZ)


class Sampler(nn.Module):
    """z_BZ, noise_BN (and class_B) -> x_BCHW in [-1, 1], of full size at any level.

    Styles are drawn to their mean by psi, `truncation`: w <- mean + psi (w - mean) (Karras et al. 2019, appendix B).
    """

    def __init__(self, generator: Generator, *, truncation: float) -> None:
        super().__init__()
        self.generator, self.truncation = generator, truncation

    def forward(self, z_BZ: Tensor, noise_BN: Tensor, condition_B: Tensor | None = None) -> Tensor:
        w_BZ = self.generator.mapping(z_BZ, condition_B)
        if self.truncation < 1:
            mean_BZ = self.generator.mean_KZ if condition_B is None else self.generator.mean_KZ[condition_B]
            w_BZ = mean_BZ + self.truncation * (w_BZ - mean_BZ)
        return resize(self.generator.render(w_BZ, noise_BN), self.generator.size).clamp(-1, 1)


class DiscriminatorBlock(nn.Module):
    """Residual block that ends at `size`; the sum of its two paths is scaled to the variance of one."""

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int], *, kernel: int = 3) -> None:
        super().__init__()
        self.conv1 = EqualConv2d(channels_in, channels_in, kernel)
        self.conv2 = EqualConv2d(channels_in, channels_out, kernel)
        self.skip = EqualConv2d(channels_in, channels_out, 1)
        self.size = size

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = activate(self.conv2(resize(activate(self.conv1(x_BCHW)), self.size)))
        out: Tensor = (h + self.skip(resize(x_BCHW, self.size))) / math.sqrt(2)
        return out


class Discriminator(nn.Module):
    """x_BCHW (and class_B) -> score_B. Classes enter by projection (Miyato & Koyama 2018, arXiv:1802.05637).

    Images come at the resolution of `level`; only one that `grows` has a way in at each.
    """

    level: float

    def __init__(
        self, spec: DataSpec, *, width: int, patch: int, deviation: bool, kernels: int, grows: bool, dense: bool = False
    ) -> None:
        super().__init__()
        seen, kernel = (one_place(spec), 1) if dense else (folded(spec, patch), 3)
        self.fold = nn.Sequential(*([nn.Flatten(), nn.Unflatten(1, seen.shape)] if dense else fold(spec, patch)))
        spec = seen
        sizes, widths = pyramid(width, spec)
        last, self.level, self.sizes = widths[-1], float(len(widths) - 1), sizes
        self.stems = nn.ModuleList(
            EqualConv2d(image_of(spec).channels, channels, 1) for channels in (widths if grows else widths[:1])
        )
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(*ends, size, kernel=kernel) for ends, size in zip(pairwise(widths), sizes[1:], strict=True)
        )
        self.deviation = BatchDeviation() if deviation else nn.Identity()
        self.mix = EqualConv2d(last + deviation, last, kernel)
        self.dense = EqualLinear(last * math.prod(sizes[-1]), last)
        self.minibatch = MinibatchDiscrimination(EqualLinear(last, kernels * SIZE), kernels=kernels) if kernels else nn.Identity()
        self.head = EqualLinear(last + kernels, 1)
        self.project = nn.Embedding(len(spec.classes), last + kernels) if spec.conditional else None

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        h_BC = self.minibatch(
            activate(self.dense(activate(self.mix(self.deviation(self.features(self.fold(x_BCHW))))).flatten(1)))
        )
        score_B: Tensor = self.head(h_BC).squeeze(1)
        if self.project is not None:
            score_B = score_B + (self.project(labels_B) * h_BC).sum(1) / math.sqrt(h_BC.shape[1])
        return score_B

    def features(self, x_BCHW: Tensor) -> Tensor:
        """The lowest resolution's features, of an image of the level's."""
        highest, share = reached(self.level)
        start = len(self.blocks) - highest
        h: Tensor = activate(self.stems[start](x_BCHW))
        for index in range(start, len(self.blocks)):
            h = self.blocks[index](h)
            if index == start and share < 1:
                below = activate(self.stems[start + 1](resize(x_BCHW, self.sizes[start + 1])))
                h = torch.lerp(below, h, share)
        return h
