"""R3GAN (Huang et al. 2024, arXiv:2501.05441): a relativistic loss with two gradient penalties, and networks without tricks.

    L_G = E[softplus(-(D(G(z)) - D(x)))],   L_D = E[softplus(-(D(x) - D(G(z))))] + R1 + R2             (section 2)
    R1 = gamma/2 E|| grad D(x) ||^2,        R2 = gamma/2 E|| grad D(G(z)) ||^2                         (section 2)

Each real image is paired with a generated one (Jolicoeur-Martineau 2018, arXiv:1807.00734), so that every mode of the data
pulls at G; with both penalties the game converges locally. The networks (section 4, configuration E) are residual, of grouped
3x3 convolutions between 1x1 ones with leaky rectifiers, no normalisation, bilinear resampling, and the initialisation of
Zhang et al. 2019 (Fixup, arXiv:1901.09321): the last layer of each of L blocks starts at zero and the others, m - 1 = 2 of
them, are scaled by L^(-1/(2m-2)).

B batch, C channels, H height, W width, Z latent size.
"""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.records import DataSpec
from components.families.blocks import fold, folded, unfold
from components.families.gan.adversarial import Adversarial, Scored
from components.families.gan.dense import DenseDiscriminator, DenseGenerator, few
from components.families.gan.layers import BatchDeviation, ClassNoise, PatchedConfig, narrowed, patched, pyramid
from components.families.gan.minibatch import SIZE, MinibatchDiscrimination
from components.families.gan.penalties import zero_centred
from components.families.images import image_of

SLOPE = 0.2  # of the leaky rectifiers
GROUP = 16  # channels of a group of the 3x3 convolutions
EXPANSION = 2  # of the channels within a block


class R3GANConfig(PatchedConfig):
    betas: tuple[float, float] = (0.0, 0.99)
    width: int = Field(default=64, ge=16, multiple_of=8, description="channels at full resolution; doubled with each halving")
    blocks: int = Field(default=1, ge=1, description="residual blocks at each resolution")
    gamma: float = Field(
        default=0.16, gt=0, description="weight of the penalties at the start; by default 0.16 (pixels / 32^2)^1.65"
    )
    gamma_end: float = Field(default=0.1, gt=0, le=1, description="share of gamma that is left at the end, by a cosine")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """gamma for the side of the images; for small ones a narrow network, a higher rate and a gamma of 1 at least: in 300
        steps of 32 on MNIST 0.02 and 0.1 stood at FD-local 27, and 1 went on to 21."""
        gamma = gamma_for(spec)
        recipe = {"lr_peak": 1e-3, "batch_size": 32, "gamma": max(1.0, gamma)}
        points = few(spec, lr_peak=1e-3, betas=(0.0, 0.99), decay_from=0.5, gamma=0.03)
        return {"gamma": gamma} | narrowed(spec, light=light, **recipe) | patched(spec, light=light) | points


class Block(nn.Module):
    """x + f(x): 1x1 to twice the channels, grouped 3x3, 1x1 back. `depth` is L, the number of blocks of the network."""

    def __init__(self, channels: int, *, depth: int) -> None:
        super().__init__()
        inner = EXPANSION * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner // GROUP),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(inner, channels, 1, bias=False),
        )
        for layer, scale in ((self.body[0], depth**-0.25), (self.body[2], depth**-0.25), (self.body[4], 0.0)):
            _initialise(layer, scale=scale)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = x_BCHW + self.body(x_BCHW)
        return out


class Generator(nn.Module):
    """z_BZ (and class_B) -> x_BCHW, not bounded in training: a learned picture of four pixels' side, times a linear map of z."""

    def __init__(self, config: R3GANConfig, spec: DataSpec) -> None:
        super().__init__()
        whole, spec = spec, folded(spec, config.patch)
        sizes, widths = pyramid(config.width, spec)
        self.noise = ClassNoise(config.latent, len(spec.classes) if spec.conditional else 0)
        self.basis = nn.Parameter(torch.randn(widths[-1], *sizes[-1]))
        self.stem = _initialise(nn.Linear(self.noise.width, widths[-1]), gain=1.0)
        layers: list[nn.Module] = []
        for level in reversed(range(len(sizes))):
            layers += [Block(widths[level], depth=config.blocks * len(sizes)) for _ in range(config.blocks)]
            if level:
                layers += [nn.Upsample(size=sizes[level - 1], mode="bilinear")]
                layers += [_initialise(nn.Conv2d(widths[level], widths[level - 1], 1, bias=False), gain=1.0)]
        layers += [_initialise(nn.Conv2d(widths[0], image_of(spec).channels, 1), gain=1.0), *unfold(whole, config.patch)]
        self.body = nn.Sequential(*layers)

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        x_BCHW: Tensor = self.body(self.basis * self.stem(self.noise(z_BZ, condition_B))[:, :, None, None])
        return x_BCHW


class Sampler(nn.Module):
    """z_BZ (and class_B) -> x_BCHW in [-1, 1]."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        x_BCHW: Tensor = self.generator(z_BZ, condition_B)
        return x_BCHW.clamp(-1, 1)


class Discriminator(nn.Module):
    """x_BCHW (and class_B) -> score_B: G's levels in the other direction, then one weight for each pixel of each channel."""

    def __init__(self, config: R3GANConfig, spec: DataSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = fold(spec, config.patch)
        spec = folded(spec, config.patch)
        sizes, widths = pyramid(config.width, spec)
        layers += [_initialise(nn.Conv2d(image_of(spec).channels, widths[0], 1), gain=1.0)]
        for level in range(len(sizes)):
            layers += [Block(widths[level], depth=config.blocks * len(sizes)) for _ in range(config.blocks)]
            if level < len(sizes) - 1:
                layers += [nn.AvgPool2d(2, ceil_mode=True)]  # halving with bilinear weights
                layers += [_initialise(nn.Conv2d(widths[level], widths[level + 1], 1, bias=False), gain=1.0)]
        layers += [BatchDeviation()] if config.batch_deviation else []
        features = widths[-1] + config.batch_deviation
        layers += [_initialise(nn.Conv2d(features, features, sizes[-1], groups=features, bias=False), gain=1.0), nn.Flatten()]
        if kernels := config.minibatch_kernels:
            project = _initialise(nn.Linear(features, kernels * SIZE, bias=False), gain=1.0)
            layers += [MinibatchDiscrimination(project, kernels=kernels)]
            features += kernels
        self.body = nn.Sequential(*layers)
        self.head = _initialise(nn.Linear(features, features if spec.conditional else 1), gain=1.0)
        self.project = nn.Embedding(len(spec.classes), features) if spec.conditional else None

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        h_BF: Tensor = self.head(self.body(x_BCHW))
        along_BF = 1.0 if self.project is None else self.project(labels_B) / math.sqrt(h_BF.shape[1])
        return (h_BF * along_BF).sum(1)


class R3GAN(Adversarial):
    """The modern baseline: every mode is pulled at, and there is little to set but gamma."""

    card = Card(
        family="gan",
        variant="r3gan",
        title="GAN with a regularised relativistic loss",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=False,
        steps=1,
        side_max=128,
        data_appetite=5_000,
        wide=True,
        per_part=("batch deviation", "minibatch discrimination"),
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:2501.05441", "arXiv:1807.00734", "arXiv:1901.09321"),
    )
    Config = R3GANConfig
    config: R3GANConfig
    centred = False
    relativistic = True

    def __init__(self, config: R3GANConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        if config.dense:
            self.generator = DenseGenerator(config, spec, last=nn.Identity())
            self.discriminator = DenseDiscriminator(config, spec)
        else:
            self.generator = Generator(config, spec)
            self.discriminator = Discriminator(config, spec)

    def generator_loss(self, real_B: Tensor | None, fake_B: Tensor) -> Tensor:
        assert real_B is not None
        return F.softplus(real_B - fake_B).mean()

    def discriminator_loss(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        return F.softplus(fake_B - real_B).mean()

    def penalty(self, scored: Scored, rng: torch.Generator) -> Tensor:
        """R1 + R2, with a gamma that falls along a cosine to `gamma_end` of it."""
        del rng
        end = self.config.gamma_end
        gamma = self.config.gamma * (end + (1 - end) * (1 + math.cos(math.pi * scored.progress)) / 2)
        return gamma * (zero_centred(scored.real_B, scored.real_BCHW) + zero_centred(scored.fake_B, scored.fake_BCHW))

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return Sampler(self.generator)


def gamma_for(spec: DataSpec) -> float:
    """0.16 (N / 32^2)^1.65 for N pixels, a line through the paper's values, none of which is more than about three times away:
    0.05 and 0.5 at 32 pixels a side (CIFAR-10, ImageNet), 2 and 1 at 64 (FFHQ, ImageNet), 150 at 256 (FFHQ). They grow faster
    than N, and with the batch if at all (of 256 to 4,096); StyleGAN2's 0.0002 N / batch (arXiv:2006.06676) falls with it."""
    pixels = image_of(spec).height * image_of(spec).width
    return float(f"{0.16 * (pixels / 32**2) ** 1.65:.2g}")


def _initialise(layer: nn.Module, *, gain: float = math.sqrt(2 / (1 + SLOPE**2)), scale: float = 1.0) -> nn.Module:
    """Weights of variance (gain scale)^2 / fan-in (He et al. 2015, arXiv:1502.01852), biases zero."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    nn.init.normal_(layer.weight, std=gain * scale / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
