"""The residual networks of SNGAN (Miyato et al. 2018, arXiv:1802.05957, appendix) and WGAN-GP, for images of any side.

Classes enter G by conditional normalisation and D by projection (Miyato & Koyama 2018, arXiv:1802.05637).

B batch, C channels, H height, W width, Z latent size.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.records import DataSpec
from components.families.blocks import fold, folded, unfold
from components.families.gan.layers import BatchDeviation, ClassNoise, ConditionalNorm, PatchedConfig, pyramid
from components.families.gan.minibatch import SIZE, MinibatchDiscrimination
from components.families.images import image_of

Limit = Callable[[nn.Module], nn.Module]  # done to every layer of D that has weights: spectral normalisation, or nothing


class GeneratorBlock(nn.Module):
    """Residual up-block: normalise, resize to `size`, convolve, twice."""

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.norm1 = ConditionalNorm(channels_in, classes)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = ConditionalNorm(channels_out, classes)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1)
        self.resize = nn.Upsample(size=size, mode="nearest")

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        h = self.conv1(self.resize(F.relu(self.norm1(x_BCHW, labels_B))))
        h = self.conv2(F.relu(self.norm2(h, labels_B)))
        out: Tensor = h + self.skip(self.resize(x_BCHW))
        return out


class Generator(nn.Module):
    """z_BZ (and class_B) -> x_BCHW in [-1, 1]. With `class_noise` the class enters beside the noise too."""

    def __init__(self, config: PatchedConfig, spec: DataSpec, *, class_noise: bool = False) -> None:
        super().__init__()
        self.unfold = nn.Sequential(*unfold(spec, config.patch))
        spec = folded(spec, config.patch)
        classes = len(spec.classes) if spec.conditional else 0
        sizes, widths = pyramid(config.width, spec)
        self.start = (widths[-1], *sizes[-1])
        self.noise = ClassNoise(config.latent, classes if class_noise else 0)
        self.stem = nn.Linear(self.noise.width, math.prod(self.start))
        self.blocks = nn.ModuleList(
            GeneratorBlock(widths[level], widths[level - 1], sizes[level - 1], classes)
            for level in reversed(range(1, len(sizes)))
        )
        self.norm = ConditionalNorm(widths[0], 0)
        self.head = nn.Conv2d(widths[0], image_of(spec).channels, 3, padding=1)

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        h = self.stem(self.noise(z_BZ, condition_B)).unflatten(1, self.start)
        for block in self.blocks:
            h = block(h, condition_B)
        x_BCHW: Tensor = self.unfold(torch.tanh(self.head(F.relu(self.norm(h, None)))))
        return x_BCHW


class DiscriminatorBlock(nn.Module):
    """Residual down-block without normalisation of its activations."""

    def __init__(self, channels_in: int, channels_out: int, *, down: bool, limit: Limit) -> None:
        super().__init__()
        self.conv1 = limit(nn.Conv2d(channels_in, channels_out, 3, padding=1))
        self.conv2 = limit(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.skip = limit(nn.Conv2d(channels_in, channels_out, 1))
        self.down = nn.AvgPool2d(2, ceil_mode=True) if down else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(F.relu(x_BCHW))))
        out: Tensor = self.down(h) + self.down(self.skip(x_BCHW))
        return out


class Discriminator(nn.Module):
    """x_BCHW (and class_B) -> score_B."""

    def __init__(self, config: PatchedConfig, spec: DataSpec, *, limit: Limit) -> None:
        super().__init__()
        self.fold = nn.Sequential(*fold(spec, config.patch))
        spec = folded(spec, config.patch)
        sizes, widths = pyramid(config.width, spec)
        self.stem = limit(nn.Conv2d(image_of(spec).channels, widths[0], 3, padding=1))
        levels = len(sizes)
        self.blocks = nn.Sequential(
            *(
                DiscriminatorBlock(widths[level], widths[min(level + 1, levels - 1)], down=level < levels - 1, limit=limit)
                for level in range(levels)
            )
        )
        self.deviation = BatchDeviation() if config.batch_deviation else nn.Identity()
        self.mix = limit(nn.Conv2d(widths[-1] + config.batch_deviation, widths[-1], 3, padding=1))
        features, kernels = widths[-1], config.minibatch_kernels
        self.minibatch = (
            MinibatchDiscrimination(limit(nn.Linear(features, kernels * SIZE, bias=False)), kernels=kernels)
            if kernels
            else nn.Identity()
        )
        self.head = limit(nn.Linear(features + kernels, 1))
        self.project = limit(nn.Embedding(len(spec.classes), features + kernels)) if spec.conditional else None

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        h = self.deviation(self.blocks(self.stem(self.fold(x_BCHW))))
        h = self.minibatch(F.relu(self.mix(h)).sum((2, 3)) / math.sqrt(h.shape[2] * h.shape[3]))
        score_B: Tensor = self.head(h).squeeze(1)
        if self.project is not None:
            score_B = score_B + (self.project(labels_B) * h).sum(1)
        return score_B
