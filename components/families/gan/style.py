"""StyleGAN2 (Karras et al. 2019, arXiv:1812.04948; 2020, arXiv:1912.04958) with adaptive augmentation (arXiv:2006.06676).

    L_D = E[softplus(-D(x))] + E[softplus(D(G(z)))] + gamma/2 E |grad D(x)|^2
    L_G = E[softplus(-D(G(z)))] + E (|J_w^T y| - a)^2,   y ~ N(0, I),   a the running mean of |J_w^T y|        (2020, eq. 4)

Both penalties are lazy: in some steps only, and that much heavier (2020, section 3.1). All is trained at full resolution from the
start, where skip connections do what progressive growing did (2020, section 4), unless `growing` asks for that. Small images go
without path-length penalty and style mixing and with a shorter mapping network, as CIFAR-10 in arXiv:2006.06676, appendix.

B batch, C channels, H height, W width, Z latent size, L layers.
"""

import math
from dataclasses import replace
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.family import Batch
from components.core.noise import NoiseInput
from components.core.randomness import integers, normal, uniform
from components.core.records import DataSpec
from components.families.dense import if_few
from components.families.gan.adaptive import Transformation
from components.families.gan.adversarial import Adversarial, Scored
from components.families.gan.layers import PatchedConfig, patched
from components.families.gan.penalties import zero_centred
from components.families.gan.style_networks import MEAN_RATE, Discriminator, Generator, Sampler, level_at, reached, resize
from components.families.images import image_of, side_of
from components.runtime.processes import mean_over_processes

R1_PER_PIXEL = 2e-4 / 64  # arXiv:2006.06676, appendix: 0.0002 pixels / batch
R1_INTERVAL, PATH_INTERVAL = 16, 8  # from one turn with a penalty to the next


class StyleGAN2Config(PatchedConfig):
    lr_peak: float = 2.5e-3
    betas: tuple[float, float] = (0.0, 0.99)
    width: int = Field(
        default=64,
        ge=16,
        description="channels at full resolution; up to four times more at lower ones; 32 up to side 16 and on a CPU",
    )
    latent: int = Field(default=64, ge=32, description="size of z and of w; with few numbers styles tell classes apart late")
    batch_deviation: bool = Field(default=True, description="D sees the standard deviation over the batch")
    shift: float = Field(default=0.0, ge=0, lt=0.5, description="D sees all images shifted by up to this share of their side")
    depth: int = Field(default=8, ge=1, description="layers of the mapping network; 2 up to side 32")
    mapping_rate: float = Field(default=0.01, gt=0, description="how much slower the mapping network learns than the rest")
    r1: float = Field(
        default=0.1, ge=0, description="gamma, the weight of the gradient penalty; for large images as arXiv:2006.06676 scales it"
    )
    path_length: float = Field(
        default=1.0, ge=0, description="in units of the paper's weight for the resolution; 0 up to side 32"
    )
    style_mixing: float = Field(default=0.9, ge=0, le=1, description="probability of two styles in one image; 0 up to side 32")
    growing: float = Field(
        default=0.0, ge=0, lt=1, description="share of the budget in which the resolution grows from the lowest to the full one"
    )
    truncation: float = Field(default=1.0, ge=0, le=1, description="psi, how far samples may be from the mean style")
    adaptive: tuple[Transformation, ...] = Field(
        default=("shift", "scale", "stretch", "translate", "brightness", "contrast", "hue", "saturation", "cutout"),
        description="adaptive augmentation; also flip, rotate, turn and luma_flip where images may be so turned or negative",
    )

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        side = side_of(spec)
        small = {"depth": 2, "path_length": 0.0, "style_mixing": 0.0} if side <= 32 else {}
        tiny = {"width": 32, "batch_size": 32, "r1": 1.0} if light or side <= 16 else {}
        return (
            {"r1": max(cls.model_fields["r1"].default, R1_PER_PIXEL * image_of(spec).height * image_of(spec).width)}
            | small
            | tiny
            | patched(spec, light=light)
            | if_few(spec, batch_size=512, batch_deviation=False, r1=0.03, mapping_rate=1.0)
        )

    @model_validator(mode="after")
    def _grows_by_pixels(self) -> Self:
        if self.growing and self.patch > 1:
            raise ValueError(f"growing: {self.growing} with a patch of {self.patch} pixels; set patch: 1")
        if self.growing and self.dense:
            raise ValueError(f"growing: {self.growing} with linear layers over all values; set growing: 0, or dense: false")
        return self


class StyleGAN2(Adversarial):
    """Sharp samples in one pass, from few items too; long training, and it may lose modes."""

    card = Card(
        family="gan",
        variant="style",
        title="Style-based GAN with adaptive augmentation",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=False,
        steps=1,
        side_max=1024,
        data_appetite=2_000,
        wide=True,
        per_part=("batch deviation", "minibatch discrimination", "mean styles", "path lengths"),
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1812.04948", "arXiv:1912.04958", "arXiv:2006.06676"),
    )
    Config = StyleGAN2Config
    config: StyleGAN2Config
    generator: Generator
    discriminator: Discriminator
    path_mean: Tensor
    level: Tensor  # that the last training step had

    def __init__(self, config: StyleGAN2Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.generator = Generator(
            spec,
            width=config.width,
            patch=config.patch,
            latent=config.latent,
            depth=config.depth,
            mapping_rate=config.mapping_rate,
            dense=config.dense,
        )
        self.discriminator = Discriminator(
            spec,
            width=config.width,
            patch=config.patch,
            deviation=config.batch_deviation,
            kernels=config.minibatch_kernels,
            grows=config.growing > 0,
            dense=config.dense,
        )
        self.register_buffer("path_mean", torch.zeros(()))
        self.register_buffer("level", torch.tensor(self.discriminator.level))

    def generator_loss(self, real_B: Tensor | None, fake_B: Tensor) -> Tensor:
        """Not saturating."""
        return F.softplus(-fake_B).mean()

    def discriminator_loss(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """The logistic loss."""
        return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()

    def penalty(self, scored: Scored, rng: torch.Generator) -> Tensor | None:
        """R1, in every 16th step (Mescheder et al. 2018, arXiv:1801.04406)."""
        if not self.config.r1 or scored.step % R1_INTERVAL:
            return None
        return R1_INTERVAL * self.config.r1 * zero_centred(scored.real_B, scored.real_BCHW)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Those of both players; G's with the path-length penalty in every eighth of its turns."""
        if self.config.growing:
            level = level_at(batch.progress, growing=self.config.growing, top=len(self.discriminator.blocks))
            self._work_at(level)
            if self.training:
                self.level.fill_(level)
            batch = replace(batch, x=self._grown(batch.x))
        losses = super().losses(batch, rng)
        turn = batch.step // self.config.critic_steps
        if self.config.path_length and "generator" in losses and turn % PATH_INTERVAL == 0:
            half = (len(batch.x) + 1) // 2  # as in the paper: enough for a mean
            labels_B = batch.condition[:half] if self.spec.conditional and batch.condition is not None else None
            weight = PATH_INTERVAL * self.config.path_length * path_weight(self.spec)
            losses["generator"] = losses["generator"] + weight * self._path_penalty(half, labels_B, rng)
        return losses

    def generate(self, n: int, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """Images of one style, or, in a share of them, of another from some layer on (2019, section 3.1)."""
        generator = self.generator
        z_BZ, noise_BN = self.noise(n, rng)
        w_BZ = generator.mapping(z_BZ, labels_B)
        if self.training:
            generator.observe(w_BZ, labels_B)
        if not self.config.style_mixing:
            return generator.render(w_BZ, noise_BN)
        other_BZ = generator.mapping(normal(z_BZ.shape, rng), labels_B)
        mixed_B1 = uniform((n, 1), rng) < self.config.style_mixing
        from_B1 = integers(1, max(generator.layers, 2), (n, 1), rng)
        other_BL1 = (mixed_B1 & (torch.arange(generator.layers, device=rng.device) >= from_B1))[:, :, None]
        return generator.render_mixed(torch.where(other_BL1, other_BZ[:, None], w_BZ[:, None]), noise_BN)

    def compilable(self) -> list[nn.Module]:
        """The halves of G, which the losses call, unless the path-length penalty differentiates them twice."""
        return [] if self.config.path_length else [self.generator.mapping, self.generator.synthesis]

    def rates(self) -> dict[str, float]:
        """With a lazy penalty every k steps, k / (k + 1) of the rate (2020, appendix B)."""
        path, r1 = (
            k / (k + 1) if weight else 1.0
            for k, weight in ((PATH_INTERVAL, self.config.path_length), (R1_INTERVAL, self.config.r1))
        )
        return {"generator": path, "discriminator": r1 * self.config.discriminator_rate}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        """z, and for each pixel of each layer one value, layer after layer."""
        pixels = sum(height * width for height, width in self.generator.synthesis.sizes)
        return (NoiseInput(name="z", shape=(self.config.latent,)), NoiseInput(name="noise", shape=(pixels,)))

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        self._work_at(float(self.level))
        return Sampler(self.generator, truncation=self.config.truncation)

    def _work_at(self, level: float) -> None:
        self.generator.synthesis.level = self.discriminator.level = level

    def _grown(self, x_BCHW: Tensor) -> Tensor:
        """Images as they are at the level: of its resolution, and while that is faded in, with less than its detail."""
        (highest, share), sizes = reached(self.discriminator.level), self.generator.synthesis.sizes[::2]
        seen_BCHW = resize(x_BCHW, sizes[highest])
        if share == 1:
            return seen_BCHW
        return torch.lerp(resize(resize(x_BCHW, sizes[highest - 1]), sizes[highest]), seen_BCHW, share)

    def _path_penalty(self, n: int, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """E (|J_w^T y| - a)^2, and a moves."""
        z_BZ, noise_BN = self.noise(n, rng)
        w_BZ = self.generator.mapping(z_BZ, labels_B)
        length_B = path_length(self.generator.render(w_BZ, noise_BN), w_BZ, rng)
        if self.training:
            self.path_mean.lerp_(mean_over_processes(length_B.detach().mean()), MEAN_RATE)
        return (length_B - self.path_mean).square().mean()


def path_length(x_BCHW: Tensor, w_BZ: Tensor, rng: torch.Generator) -> Tensor:
    """|J_w^T y|_B for images x of styles w and y ~ N(0, I), itself differentiable."""
    y_BCHW = normal(x_BCHW.shape, rng)
    (slope_BZ,) = torch.autograd.grad((x_BCHW * y_BCHW).sum(), w_BZ, create_graph=True)
    return (slope_BZ.float().square().sum(1) + 1e-12).sqrt()


def path_weight(spec: DataSpec) -> float:
    """ln 2 / (r^2 (ln r - ln 2)) for r^2 pixels (2020, appendix B)."""
    pixels = image_of(spec).height * image_of(spec).width
    return math.log(2) / (pixels * max(0.5 * math.log(pixels) - math.log(2), math.log(2)))
