"""Generative adversarial network: SNGAN (Miyato et al. 2018, arXiv:1802.05957), residual, with the hinge loss.

    L_D = E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))],   L_G = -E[D(G(z))]          (Lim & Ye 2017, arXiv:1705.02894)

Every layer of D is divided by its largest singular value; sampling uses an average of G's weights (Yazici et al. 2019,
arXiv:1806.04498). Classes enter G by conditional normalisation and D by projection (Miyato & Koyama 2018, arXiv:1802.05637).
The rates of the two are those of Heusel et al. 2017 (arXiv:1706.08500): D learns faster. D sees the standard deviation over
groups of a batch (Karras et al. 2018, arXiv:1710.10196, section 3), which makes a collapsed batch visible to it.

B batch, C channels, H height, W width, Z latent size.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.blocks import halvings


class SNGANConfig(FamilyConfig):
    lr_peak: float = 2e-4
    batch_size: int = 64
    betas: tuple[float, float] = (0.0, 0.9)
    clip_norm: float | None = None
    warmup_steps: int = 0
    decay_from: float = 0.5
    ema_decay: float = 0.999
    width: int = Field(
        default=64, ge=16, description="channels at full resolution; they double with each halving, up to four times"
    )
    latent: int = Field(default=64, ge=2)
    discriminator_rate: float = Field(default=4.0, gt=0, description="how many times faster D learns than G")
    shift: float = Field(default=0.125, ge=0, lt=0.5, description="D sees real and generated images shifted by up to this share")


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and bias depend on the class; without classes, plain batch normalisation."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes == 0)
        self.gain = nn.Embedding(classes, channels) if classes else None
        self.bias = nn.Embedding(classes, channels) if classes else None
        if self.gain is not None and self.bias is not None:
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.bias.weight)

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        normed: Tensor = self.norm(x_BCHW)
        if self.gain is None or self.bias is None:
            return normed
        scaled: Tensor = normed * self.gain(labels_B)[:, :, None, None] + self.bias(labels_B)[:, :, None, None]
        return scaled


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
    """z_BZ (and class_B) -> x_BCHW in [-1, 1]."""

    def __init__(self, config: SNGANConfig, spec: DataSpec) -> None:
        super().__init__()
        classes = len(spec.classes) if spec.conditional else 0
        sizes, widths = _pyramid(config, spec)
        self.start = (widths[-1], *sizes[-1])
        self.stem = nn.Linear(config.latent, math.prod(self.start))
        self.blocks = nn.ModuleList(
            GeneratorBlock(widths[level], widths[level - 1], sizes[level - 1], classes)
            for level in reversed(range(1, len(sizes)))
        )
        self.norm = ConditionalNorm(widths[0], 0)
        self.head = nn.Conv2d(widths[0], spec.channels, 3, padding=1)

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None = None) -> Tensor:
        h = self.stem(z_BZ).unflatten(1, self.start)
        for block in self.blocks:
            h = block(h, condition_B)
        return torch.tanh(self.head(F.relu(self.norm(h, None))))


class DiscriminatorBlock(nn.Module):
    """Residual down-block with spectrally normalised convolutions."""

    def __init__(self, channels_in: int, channels_out: int, *, down: bool) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(channels_in, channels_out, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.skip = spectral_norm(nn.Conv2d(channels_in, channels_out, 1))
        self.down = nn.AvgPool2d(2, ceil_mode=True) if down else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(F.relu(x_BCHW))))
        out: Tensor = self.down(h) + self.down(self.skip(x_BCHW))
        return out


class Discriminator(nn.Module):
    """x_BCHW (and class_B) -> score_B."""

    def __init__(self, config: SNGANConfig, spec: DataSpec) -> None:
        super().__init__()
        sizes, widths = _pyramid(config, spec)
        self.stem = spectral_norm(nn.Conv2d(spec.channels, widths[0], 3, padding=1))
        levels = len(sizes)
        self.blocks = nn.Sequential(
            *(
                DiscriminatorBlock(widths[level], widths[min(level + 1, levels - 1)], down=level < levels - 1)
                for level in range(levels)
            )
        )
        self.mix = spectral_norm(nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1))
        self.head = spectral_norm(nn.Linear(widths[-1], 1))
        self.project = spectral_norm(nn.Embedding(len(spec.classes), widths[-1])) if spec.conditional else None

    def forward(self, x_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        h = self.blocks(self.stem(x_BCHW))
        h = F.relu(self.mix(torch.cat([h, _batch_deviation(h)], dim=1))).sum((2, 3)) / math.sqrt(h.shape[2] * h.shape[3])
        score_B: Tensor = self.head(h).squeeze(1)
        if self.project is not None:
            score_B = score_B + (self.project(labels_B) * h).sum(1)
        return score_B


class SNGAN(Family):
    """One-pass sampling and sharp images; adversarial training is unstable and may lose modes."""

    card = Card(
        family="gan",
        variant="sngan",
        title="GAN with spectral normalisation and the hinge loss",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=False,
        steps=1,
        side_max=128,
        data_appetite=5_000,
        references=("arXiv:1802.05957", "arXiv:1802.05637", "arXiv:1705.02894"),
    )
    Config = SNGANConfig
    config: SNGANConfig

    def __init__(self, config: SNGANConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.generator = Generator(config, spec)
        self.discriminator = Discriminator(config, spec)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"generator": list(self.generator.parameters()), "discriminator": list(self.discriminator.parameters())}

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """The hinge losses of both players, from one pass: the trainer takes each one's gradient, then steps both."""
        real_BCHW = batch.images_BCHW
        fake_BCHW = self.generator(*self.noise(len(real_BCHW), rng), batch.labels_B if self.spec.conditional else None)
        real_BCHW, fake_BCHW = (_shift(x_BCHW, self.config.shift, rng) for x_BCHW in (real_BCHW, fake_BCHW))
        labels_B = batch.labels_B
        score_real_B = self.discriminator(real_BCHW, labels_B)
        score_fake_B = self.discriminator(fake_BCHW, labels_B)
        return {
            "generator": -score_fake_B.mean(),
            "discriminator": F.relu(1 - score_real_B).mean() + F.relu(1 + score_fake_B).mean(),
        }

    def rates(self) -> dict[str, float]:
        """Each group's learning rate, as a multiple of lr_peak."""
        return {"generator": 1.0, "discriminator": self.config.discriminator_rate}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=(self.config.latent,)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return self.generator


def _pyramid(config: SNGANConfig, spec: DataSpec) -> tuple[list[tuple[int, int]], list[int]]:
    sizes = halvings(spec.height, spec.width)
    return sizes, [config.width * min(2**level, 4) for level in range(len(sizes))]


def _batch_deviation(h_BCHW: Tensor) -> Tensor:
    """The standard deviation over the batch, averaged to one plane B1HW."""
    deviation = torch.sqrt(h_BCHW.var(0, unbiased=False) + 1e-8).mean()
    return deviation.expand(len(h_BCHW), 1, *h_BCHW.shape[2:])


def _shift(x_BCHW: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Move each image by a few whole pixels, the edge repeated, differentiably (Zhao et al. 2020, arXiv:2006.10738)."""
    pixels = int(share * min(x_BCHW.shape[2:]))
    if not pixels:
        return x_BCHW
    b, _, h, w = x_BCHW.shape
    padded = F.pad(x_BCHW, (pixels,) * 4, mode="replicate")
    offset_2B = torch.randint(0, 2 * pixels + 1, (2, b), generator=rng, device=x_BCHW.device)
    rows_BH = offset_2B[0, :, None] + torch.arange(h, device=x_BCHW.device)
    columns_BW = offset_2B[1, :, None] + torch.arange(w, device=x_BCHW.device)
    batch_B11 = torch.arange(b, device=x_BCHW.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch_B11, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)
