"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv:2006.06676), for data so small that D would learn it by heart.

Each transformation is skipped with probability 1 - p, independently of the others; an image is turned, before or after it is
stretched or both, with probability p (appendix B). While p stays below about 0.8 the distribution of augmented images then
determines that of the images (section 3.1), so that G learns none of it. All of them are differentiable, and the identity where
they are skipped. The strength p follows a heuristic of overfitting (eq. 1, section 3.2):

    r_t = E[sign(D(x))] over the real images of four batches,   p <- p + sign(r_t - target) 4 batches / batches to p = 1

In the paper p can go from 0 to 1 in 500,000 images, 2 % of its 25 million. Here it is in so many, or in a share of the budget
where that is fewer: a run of minutes would end before p is felt. The share is a tenth, as a short run moves p but seldom: in 400
steps, 100 times, by 0.1 each. In the first pass over the data p does not rise: every image is new to D then, and that it tells
real from generated says that G is poor, not that it has learnt the images by heart.

Where D's scores have no zero, those of a critic and of a relativistic D, the sign is that of D(x) - D(G(z)), pair by pair.

B batch, C channels, H height, W width; images in [-1, 1].
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from components.core.randomness import uniform
from components.families.gan.augmentation import cutout, shift
from components.families.gan.colours import brightness, contrast, hue, luma_flip, saturation
from components.families.gan.geometry import Drawn, product, resample, scale, stretch, translate, turn
from components.runtime.processes import mean_over_processes

Transformation = Literal[
    "flip", "rotate", "shift", "scale", "turn", "stretch", "translate",
    "brightness", "contrast", "luma_flip", "hue", "saturation", "cutout",
]  # fmt: skip
BATCHES = 4  # between two updates of p
SHIFT, CUTOUT = 0.125, 0.5  # the paper's, appendix B


class AdaptiveAugment(nn.Module):
    """x_BCHW -> x_BCHW by `transformations`, in the paper's order. `strength` is p, between 0 and `limit`."""

    strength: Tensor
    signs: Tensor
    batches: Tensor

    def __init__(self, transformations: tuple[Transformation, ...], *, target: float, limit: float) -> None:
        super().__init__()
        of = [[each for name, each in kind.items() if name in transformations] for kind in (PIXELS, COLOURS)]
        self.pixels, self.colours = of
        self.geometry = [GEOMETRY[name] for name in ORDER if name in transformations]
        self.target, self.limit = target, limit
        self.register_buffer("strength", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))  # the mean signs of the batches since the last update, summed
        self.register_buffer("batches", torch.zeros(()))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *given: Any) -> None:
        """Its state is of a training; weights that are read without it leave it as it is."""
        own = {f"{prefix}{name}": value for name, value in self.named_buffers()}
        super()._load_from_state_dict(own | state_dict, prefix, *given)

    def forward(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        for transform in self.pixels:
            x_BCHW = torch.where(self._applied(x_BCHW, rng), transform(x_BCHW, rng), x_BCHW)
        if self.geometry:
            x_BCHW = resample(x_BCHW, self._places(x_BCHW, rng))
        for transform in self.colours:
            x_BCHW = torch.where(self._applied(x_BCHW, rng), transform(x_BCHW, rng), x_BCHW)
        return x_BCHW

    @torch.no_grad()
    def observe(self, scores_B: Tensor, *, step: float, rises: bool) -> None:
        """Move p by the four batches before this one, once they are full, by four times `step`, unless it would rise and may not;
        then take note of D's scores of its real images, or of a part of them. `step`: of the whole batch."""
        full = self.batches == BATCHES
        direction = torch.sign(self.signs / BATCHES - self.target).clamp(max=1 if rises else 0)
        self.strength.add_(full * direction * (BATCHES * step)).clamp_(0, self.limit)
        self.signs.masked_fill_(full, 0).add_(mean_over_processes(scores_B.sign().mean()))
        self.batches.masked_fill_(full, 0).add_(1)

    def _applied(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        return uniform((len(x_BCHW), 1, 1, 1), rng) < self.strength

    def _places(self, x_BCHW: Tensor, rng: torch.Generator) -> Tensor:
        """A_B33, from where each pixel is taken."""
        b, _, h, w = x_BCHW.shape
        same_33 = torch.eye(3, device=x_BCHW.device)
        a_B33 = same_33.expand(b, 3, 3)
        for draw in self.geometry:
            p = 1 - (1 - self.strength).sqrt() if draw is turn else self.strength  # two turns: either with p
            a_B33 = product(a_B33, torch.where(uniform((b, 1, 1), rng) < p, draw((b, h, w), rng), same_33))
        return a_B33


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


Transform = Callable[[Tensor, torch.Generator], Tensor]
PIXELS: dict[str, Transform] = {"flip": flip, "rotate": rotate, "shift": lambda x_BCHW, rng: shift(x_BCHW, SHIFT, rng)}
GEOMETRY: dict[str, Drawn] = {"scale": scale, "turn": turn, "stretch": stretch, "translate": translate}
ORDER = ("scale", "turn", "stretch", "turn", "translate")
COLOURS: dict[str, Transform] = {
    "brightness": brightness,
    "contrast": contrast,
    "luma_flip": luma_flip,
    "hue": hue,
    "saturation": saturation,
    "cutout": lambda x_BCHW, rng: cutout(x_BCHW, CUTOUT, rng),
}


def _each(x_BCHW: Tensor) -> tuple[int, ...]:
    """The shape of one number an image."""
    return (len(x_BCHW), 1, 1, 1)
