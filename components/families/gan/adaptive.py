"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv:2006.06676), for data so small that D would learn it by heart.

Each transformation is skipped with probability 1 - p, independently of the others. While p stays below about 0.8 the
distribution of augmented images then determines that of the images (section 3.1), so that G learns none of it. All of them are
differentiable, and the identity where they are skipped. The strength p follows a heuristic of overfitting (eq. 1, section 3.2):

    r_t = E[sign(D(x))] over the real images of four batches,   p <- p + sign(r_t - target) images seen / images to p = 1

B batch, C channels, H height, W width; images in [-1, 1].
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from components.core.randomness import normal, uniform
from components.families.gan.augmentation import cutout, shift
from components.runtime.processes import mean_over_processes

Transformation = Literal["flip", "rotate", "shift", "brightness", "contrast", "cutout"]
BATCHES = 4  # between two updates of p
SHIFT, BRIGHTNESS, CONTRAST, CUTOUT = 0.125, 0.2, 0.5, 0.5  # the paper's, appendix B


class AdaptiveAugment(nn.Module):
    """x_BCHW -> x_BCHW by `transformations`, in their fixed order. `strength` is p, between 0 and `limit`."""

    strength: Tensor
    signs: Tensor
    batches: Tensor

    def __init__(self, transformations: tuple[Transformation, ...], *, target: float, images: float, limit: float) -> None:
        super().__init__()
        self.chosen = [transform for name, transform in TRANSFORMATIONS.items() if name in transformations]
        self.target, self.images, self.limit = target, images, limit
        self.register_buffer("strength", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))  # the mean signs of the batches since the last update, summed
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        for transform in self.chosen:
            applied_B111 = uniform(_each(x_BCHW), rng) < self.strength
            x_BCHW = torch.where(applied_B111, transform(x_BCHW, rng), x_BCHW)
        return x_BCHW

    @torch.no_grad()
    def observe(self, scores_B: Tensor, *, items: int) -> None:
        """Move p by the four batches before this one, once they are full; then take note of D's scores of its real images, or of
        a part of them. `items`: of the whole batch."""
        full = self.batches == BATCHES
        direction = torch.sign(self.signs / BATCHES - self.target)
        self.strength.add_(full * direction * (BATCHES * items / self.images)).clamp_(0, self.limit)
        self.signs.masked_fill_(full, 0).add_(mean_over_processes(scores_B.sign().mean()))
        self.batches.masked_fill_(full, 0).add_(1)


def flip(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Left to right, or not."""
    return torch.where(uniform(_each(x_BCHW), rng) < 0.5, x_BCHW.flip(3), x_BCHW)


def rotate(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """By a multiple of 90 degrees; of 180 where the image is not square."""
    turns_B111 = (uniform(_each(x_BCHW), rng) * 4).floor()
    square = x_BCHW.shape[2] == x_BCHW.shape[3]
    turned_BCHW = x_BCHW
    for turns in (1, 2, 3):
        shown = turns if square else 2 * (turns // 2)
        turned_BCHW = torch.where(turns_B111 == turns, x_BCHW.rot90(shown, (2, 3)), turned_BCHW)
    return turned_BCHW


def brighten(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Add N(0, 0.2^2) to a whole image."""
    return x_BCHW + BRIGHTNESS * normal(_each(x_BCHW), rng)


def stretch(x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """Multiply a whole image by 2^N(0, 0.5^2)."""
    return x_BCHW * torch.exp2(CONTRAST * normal(_each(x_BCHW), rng))


TRANSFORMATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": flip,
    "rotate": rotate,
    "shift": lambda x_BCHW, rng: shift(x_BCHW, SHIFT, rng),
    "brightness": brighten,
    "contrast": stretch,
    "cutout": lambda x_BCHW, rng: cutout(x_BCHW, CUTOUT, rng),
}


def _each(x_BCHW: Tensor) -> tuple[int, ...]:
    """The shape of one number an image."""
    return (len(x_BCHW), 1, 1, 1)
