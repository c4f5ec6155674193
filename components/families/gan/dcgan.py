"""DCGAN (Radford et al. 2016, arXiv:1511.06434): strided convolutions, batch normalisation in both players, weights from
N(0, 0.02^2), and the losses of Goodfellow et al. 2014 (arXiv:1406.2661), G's the one that does not saturate (section 3):

    L_D = -E[log sigmoid(D(x))] - E[log(1 - sigmoid(D(G(z))))],   L_G = -E[log sigmoid(D(G(z)))]

The baseline. Classes enter G beside the noise (Mirza & Osindero 2014, arXiv:1411.1784) and D by projection (Miyato & Koyama
2018, arXiv:1802.05637). Noise is normal, where the paper has it uniform.

B batch, C channels, H height, W width, Z latent size.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.records import DataSpec
from components.families.gan.adversarial import Adversarial, AdversarialConfig
from components.families.gan.dense import DenseDiscriminator, DenseGenerator, few
from components.families.gan.layers import BatchDeviation, BatchNorm, ClassNoise, narrowed, pyramid
from components.families.gan.minibatch import SIZE, MinibatchDiscrimination
from components.families.images import image_of


class DCGANConfig(AdversarialConfig):
    betas: tuple[float, float] = (0.5, 0.999)
    batch_deviation: bool = Field(default=True, description="D sees the standard deviation over the batch; not in the paper")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Small images, a narrow network and a higher rate."""
        return narrowed(spec, light=light, lr_peak=4e-4) | few(spec)


class Up(nn.Module):
    """Transposed 4x4 convolution of stride two, to `size`: of an odd side the last row or column falls away."""

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int], *, bias: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=bias)
        self.size = size

    def forward(self, x_BCHW: Tensor) -> Tensor:
        doubled: Tensor = self.conv(x_BCHW)
        return doubled[:, :, : self.size[0], : self.size[1]]


class Generator(nn.Module):
    """z_BZ (and class_B) -> x_BCHW in [-1, 1]."""

    def __init__(self, config: DCGANConfig, spec: DataSpec) -> None:
        super().__init__()
        sizes, widths = _levels(config, spec)
        self.noise = ClassNoise(config.latent, len(spec.classes) if spec.conditional else 0)
        self.start = (widths[-1], *sizes[-1])
        self.stem = nn.Linear(self.noise.width, math.prod(self.start), bias=False)
        layers: list[nn.Module] = []
        for level in reversed(range(1, len(sizes))):
            last = level == 1
            layers += [BatchNorm(widths[level]), nn.ReLU()]
            layers += [Up(widths[level], image_of(spec).channels if last else widths[level - 1], sizes[level - 1], bias=last)]
        self.body = nn.Sequential(*layers, nn.Tanh())
        self.apply(_initialise)
        nn.init.normal_(self.stem.weight, std=self.noise.width**-0.5)  # any size of noise arrives with the spread it has

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        x_BCHW: Tensor = self.body(self.stem(self.noise(z_BZ, condition_B)).unflatten(1, self.start))
        return x_BCHW


class Discriminator(nn.Module):
    """x_BCHW (and class_B) -> score_B, the logit of being real."""

    def __init__(self, config: DCGANConfig, spec: DataSpec) -> None:
        super().__init__()
        sizes, widths = _levels(config, spec)
        layers: list[nn.Module] = []
        for level, (size, following) in enumerate(pairwise(sizes)):
            first = level == 0
            # An odd side gets one more row or column, so that half of it is rounded up as G's levels are.
            layers += [nn.ZeroPad2d((0, size[1] % 2, 0, size[0] % 2))]
            layers += [
                nn.Conv2d(image_of(spec).channels if first else widths[level], widths[level + 1], 4, 2, padding=1, bias=first)
            ]
            layers += [nn.LeakyReLU(0.2)] if first else [BatchNorm(widths[level + 1]), nn.LeakyReLU(0.2)]
            assert following == ((size[0] + 1) // 2, (size[1] + 1) // 2)
        features = (widths[-1] + config.batch_deviation) * math.prod(sizes[-1])
        layers += [*([BatchDeviation()] if config.batch_deviation else []), nn.Flatten()]
        if kernels := config.minibatch_kernels:
            layers += [MinibatchDiscrimination(nn.Linear(features, kernels * SIZE, bias=False), kernels=kernels)]
            features += kernels
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(features, 1)
        self.project = nn.Embedding(len(spec.classes), features) if spec.conditional else None
        self.apply(_initialise)
        if self.project is not None:
            nn.init.normal_(self.project.weight, std=0.02)

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        h_BF = self.body(x_BCHW)
        score_B: Tensor = self.head(h_BF).squeeze(1)
        return score_B if self.project is None else score_B + (self.project(labels_B) * h_BF).sum(1)


class DCGAN(Adversarial):
    """The small and well-known baseline; it loses modes more easily than the others."""

    card = Card(
        family="gan",
        variant="dcgan",
        title="Deep convolutional GAN",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=False,
        steps=1,
        side_max=64,
        data_appetite=5_000,
        wide=True,
        per_part=("batch normalisation", "batch deviation", "minibatch discrimination"),
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1511.06434", "arXiv:1406.2661", "arXiv:1411.1784"),
    )
    Config = DCGANConfig
    config: DCGANConfig

    def __init__(self, config: DCGANConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        if config.dense:
            self.generator = DenseGenerator(config, spec, last=nn.Tanh())
            self.discriminator = DenseDiscriminator(config, spec, waves=False)
        else:
            self.generator = Generator(config, spec)
            self.discriminator = Discriminator(config, spec)

    def generator_loss(self, real_B: Tensor | None, fake_B: Tensor) -> Tensor:
        """The one that does not saturate."""
        return F.softplus(-fake_B).mean()

    def discriminator_loss(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def _levels(config: DCGANConfig, spec: DataSpec) -> tuple[list[tuple[int, int]], list[int]]:
    """Down to four pixels as in the paper; small images to two and over two halvings, or a single layer would be all there is."""
    return pyramid(config.width, spec, smallest=4 if min(image_of(spec).height, image_of(spec).width) > 16 else 2, least=3)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02^2), gains from N(1, 0.02^2)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        module.weight.normal_(0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.normal_(1, 0.02)
