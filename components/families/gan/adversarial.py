"""The game of a generator G and a discriminator D, which every variant plays with its own networks, losses and penalty.

The players alternate (algorithm 1 of Goodfellow et al. 2014, arXiv:1406.2661, and of Gulrajani et al. 2017, arXiv:1704.00028):

    k times:  draw z and real images x,   D moves by the gradient of L_D(x, G(z));
    then:     draw z anew,                G moves by that of L_G(G(z)), against the D that has moved.

D's k is `critic_steps`. Both see images through the same augmentation, drawn anew for each: `shift`, `colour` and `cutout` always
(augmentation.py), those of `adaptive` as much as D knows its images by heart (adaptive.py). A step of training is one of D, with
a batch of real images: these are the items seen that a budget counts, as the papers count images shown to D. What G draws is none
of them, and its turn needs no others: a relativistic loss takes the real images of the step again. Of N items, in batches of B, D
takes N / B steps and G takes N / (k B).

B batch, C channels, H height, W width, Z latent size.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from components.core.family import Batch, Family
from components.core.layers import plain_layers, repeatable_blocks
from components.core.noise import NoiseInput
from components.core.randomness import whole_batch
from components.core.records import DataSpec
from components.families.dense import DenseConfig
from components.families.gan.adaptive import AdaptiveAugment, Transformation
from components.families.gan.augmentation import colour, cutout, shift
from components.runtime.processes import by_itself, mean_over_processes

CALIBRATION_BATCHES = 16


class AdversarialConfig(DenseConfig):
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
    discriminator_rate: float = Field(default=1.0, gt=0, description="how many times faster D learns than G")
    critic_steps: int = Field(default=1, ge=1, description="k, steps of D for one of G")
    batch_deviation: bool = Field(default=False, description="D sees the standard deviation over the batch")
    minibatch_kernels: int = Field(
        default=0,
        ge=0,
        description="kernels of minibatch discrimination: D sees how near images are to the others of their batch",
    )
    shift: float = Field(default=0.125, ge=0, lt=0.5, description="D sees all images shifted by up to this share of their side")
    colour: float = Field(default=0.0, ge=0, le=1, description="D sees all images in changed brightness, saturation and contrast")
    cutout: float = Field(default=0.0, ge=0, lt=1, description="D sees all images less a rectangle of this share of their sides")
    adaptive: tuple[Transformation, ...] = Field(
        default=(),
        description="adaptive augmentation, for few items: shift, scale, stretch, translate, brightness, contrast, hue, "
        "saturation, cutout; flip, rotate, turn and luma_flip where images may be so turned or negative",
    )
    adaptive_target: float = Field(default=0.6, ge=-1, le=1, description="E[sign D(x)] above which augmentation grows")
    adaptive_images: float = Field(default=500e3, gt=0, description="images in which its strength can go from 0 to 1")
    adaptive_share: float = Field(default=0.1, gt=0, le=1, description="share of the budget in which it can, where that is fewer")
    adaptive_limit: float = Field(default=0.8, ge=0, le=1, description="its largest strength; above 0.8 it may leak")
    unroll: int = Field(default=0, ge=0, description="steps of D that G looks ahead (Metz et al. 2017, arXiv:1611.02163)")
    unroll_rate: float = Field(default=0.1, gt=0, description="rate of the plain gradient steps that G looks ahead")


@dataclass(frozen=True)
class Scored:
    """What D saw, and its scores; gradients may be taken of the scores by the images."""

    real_BCHW: Tensor
    fake_BCHW: Tensor
    labels_B: Tensor | None
    real_B: Tensor
    fake_B: Tensor
    progress: float
    step: int = 0
    epoch: int = 1


class Adversarial(Family):
    """A family of two players. A variant makes `generator` and `discriminator` and says what each wants of the scores."""

    config: AdversarialConfig
    relativistic: ClassVar[bool] = False  # G's loss is of the real images' scores, too
    centred: ClassVar[bool] = True  # D's zero tells real from generated images; else only differences of its scores do
    adaptive: AdaptiveAugment
    generator: nn.Module  # z_BZ (and class_B) -> x_BCHW in [-1, 1]
    discriminator: nn.Module  # x_BCHW, class_B or None -> score_B

    def __init__(self, config: AdversarialConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.adaptive = AdaptiveAugment(config.adaptive, target=config.adaptive_target, limit=config.adaptive_limit)

    @abstractmethod
    def generator_loss(self, real_B: Tensor | None, fake_B: Tensor) -> Tensor:
        """G's loss, a scalar, of D's scores; those of real images where it is `relativistic`."""

    @abstractmethod
    def discriminator_loss(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """D's loss, a scalar, of its scores."""

    def penalty(self, scored: Scored, rng: torch.Generator) -> Tensor | None:
        """What is added to D's loss besides; nothing by default."""
        return None

    def turns(self) -> dict[str, int]:
        return {"discriminator": 1, "generator": self.config.critic_steps}

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """That of the player whose turn it is; without a turn, of all that are due, against the other as it is."""
        of = {"discriminator": self._discriminator_turn, "generator": self._generator_turn}
        return {turn: of[turn](batch, rng) for turn in ((batch.turn,) if batch.turn else self.due(batch))}

    def observe(self, scored: Scored, rng: torch.Generator) -> None:
        """The augmentation learns how D fares in its turn, on a batch or a part of it."""
        if self.training and self.config.adaptive:
            told_B = scored.real_B if self.centred else scored.real_B - scored.fake_B
            self.adaptive.observe(told_B, step=self._adaptive_step(scored, rng), rises=scored.epoch > 0)

    def calibrate(self, batches: Iterator[Batch]) -> None:
        """Standing statistics (Brock et al. 2019, arXiv:1809.11096, appendix C.1): the moments that G's batch normalisation draws
        with are those of these weights over CALIBRATION_BATCHES batches, not the trained ones' last few."""
        norms = [layer for layer in self.generator.modules() if isinstance(layer, nn.BatchNorm2d)]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
            norm.train()
        with by_itself():
            for number, batch in enumerate(islice(batches, CALIBRATION_BATCHES)):
                rng = torch.Generator(batch.x.device).manual_seed(number)
                self.generate(len(batch.x), batch.condition if self.spec.conditional else None, rng)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    def kept(self) -> dict[str, Tensor]:
        """Without the strength of the augmentation, which is of the data that D saw: another training begins with none."""
        return {name: value for name, value in super().kept().items() if not name.startswith("adaptive.")}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"generator": list(self.generator.parameters()), "discriminator": list(self.discriminator.parameters())}

    def adaptable(self) -> tuple[str, ...]:
        """G's layers; D is not drawn with."""
        return plain_layers(self, within="generator")

    def beside_adapter(self) -> list[nn.Parameter]:
        return list(self.discriminator.parameters())

    def lower_layers(self) -> list[nn.Parameter]:
        """Those of the first half of D's convolutions, by which the edges and textures are seen that most images have
        (FreezeD, Mo et al. 2020, arXiv:2002.10964)."""
        owners = [list(module.parameters(recurse=False)) for module in self.discriminator.modules()]
        convolutions = [own for own in owners if any(each.dim() == 4 for each in own)]
        return [each for own in convolutions[: len(convolutions) // 2] for each in own]

    def compilable(self) -> list[nn.Module]:
        """G, and D where no gradient of its own gradient is taken: torch.compile cannot differentiate twice."""
        once = type(self).penalty is Adversarial.penalty and not self.config.unroll
        return [self.generator, self.discriminator] if once else [self.generator]

    def recomputable(self) -> tuple[nn.Module, ...]:
        """Without D's where G looks ahead: what it saw were other weights."""
        return repeatable_blocks(self.generator) if self.config.unroll else super().recomputable()

    def rates(self) -> dict[str, float]:
        """Each group's learning rate, as a multiple of lr_peak."""
        return {"generator": 1.0, "discriminator": self.config.discriminator_rate}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=(self.config.latent,)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return self.generator

    def generate(self, n: int, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """Images to learn from, x_BCHW, of the given classes."""
        x_BCHW: Tensor = self.generator(*self.noise(n, rng), labels_B)
        return x_BCHW

    def augment(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """What D sees of images, real or generated: the fixed augmentation, then the adaptive one."""
        x_BCHW = colour(x_BCHW, self.config.colour, rng)
        x_BCHW = cutout(shift(x_BCHW, self.config.shift, rng), self.config.cutout, rng)
        seen_BCHW: Tensor = self.adaptive(x_BCHW, rng)
        return seen_BCHW

    def _adaptive_step(self, scored: Scored, rng: torch.Generator) -> float:
        """How much of its strength the augmentation can move in a batch: its share of so many images, or of so much of the budget
        where that is fewer."""
        images, of_budget = whole_batch(rng, of=len(scored.real_B)), scored.progress / max(scored.step, 1)
        return max(images / self.config.adaptive_images, of_budget / self.config.adaptive_share)

    def _discriminator_turn(self, batch: Batch, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            fake_BCHW = self.generate(len(batch.x), self._labels(batch), rng)
        scored = self._score(batch, fake_BCHW, rng)
        self.observe(scored, rng)
        return self._criticised(scored, rng)

    def _generator_turn(self, batch: Batch, rng: torch.Generator) -> Tensor:
        labels_B = self._labels(batch)
        fake_BCHW = self.generate(len(batch.x), labels_B, rng)
        if self.config.unroll:
            return self._looked_ahead(self._score(batch, fake_BCHW, rng), rng)
        real_B = None
        if self.relativistic:
            with torch.no_grad():
                real_B = self.discriminator(self.augment(batch.x, rng), labels_B)
        return self.generator_loss(real_B, self.discriminator(self.augment(fake_BCHW, rng), labels_B))

    def _labels(self, batch: Batch) -> Tensor | None:
        return batch.condition if self.spec.conditional else None

    def _score(self, batch: Batch, fake_BCHW: Tensor, rng: torch.Generator) -> Scored:
        labels_B = self._labels(batch)
        real_BCHW, fake_BCHW = (_watched(self.augment(x_BCHW, rng)) for x_BCHW in (batch.x, fake_BCHW))
        real_B, fake_B = (self.discriminator(x_BCHW, labels_B) for x_BCHW in (real_BCHW, fake_BCHW))
        return Scored(real_BCHW, fake_BCHW, labels_B, real_B, fake_B, batch.progress, batch.step, batch.epoch)

    def _criticised(self, scored: Scored, rng: torch.Generator) -> Tensor:
        """All of D's loss: of its scores, and the penalty where there is one."""
        loss = self.discriminator_loss(scored.real_B, scored.fake_B)
        penalty = self.penalty(scored, rng)
        return loss if penalty is None else loss + penalty

    def _looked_ahead(self, scored: Scored, rng: torch.Generator) -> Tensor:
        """G's loss against D as it would be after `unroll` steps of gradient descent by all of D's loss; G's gradient passes
        through them."""
        loss = self._criticised(scored, rng)
        weights: dict[str, Tensor] = {
            f"family.discriminator.{name}": w for name, w in self.discriminator.named_parameters() if w.requires_grad
        }
        for _ in range(self.config.unroll):
            slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
            weights = {
                name: weight if slope is None else weight - self.config.unroll_rate * mean_over_processes(slope)
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }
            scored, loss = functional_call(_Again(self), weights, (scored, rng))
        return self.generator_loss(scored.real_B, scored.fake_B)


class _Again(nn.Module):
    """The same images before a D of other weights: its scores, and its loss of them."""

    def __init__(self, family: Adversarial) -> None:
        super().__init__()
        self.family = family

    def forward(self, scored: Scored, rng: torch.Generator) -> tuple[Scored, Tensor]:
        real_B, fake_B = (self.family.discriminator(x, scored.labels_B) for x in (scored.real_BCHW, scored.fake_BCHW))
        scored = replace(scored, real_B=real_B, fake_B=fake_B)
        return scored, self.family._criticised(scored, rng)


def _watched(x_BCHW: Tensor) -> Tensor:
    """The same images, by which a gradient can be taken."""
    return x_BCHW if x_BCHW.requires_grad else x_BCHW.detach().requires_grad_()
