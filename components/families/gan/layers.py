"""Pieces that several generators and discriminators share.

B batch, C channels, H height, W width.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.records import DataSpec
from components.families.blocks import halvings
from components.families.gan.adversarial import AdversarialConfig
from components.families.images import image_of, side_of
from components.runtime.processes import mean_over_processes, processes


class PatchedConfig(AdversarialConfig):
    """Of variants whose players may see squares of pixels."""

    patch: int = Field(
        default=1,
        ge=1,
        le=8,
        description="pixels a side that G and D take as one place; 2 above side 16 on a CPU, for more steps",
    )


def patched(spec: DataSpec, *, light: bool) -> dict[str, Any]:
    """Squares of two by two pixels where there is no GPU and the image has enough of them."""
    return {"patch": 2} if light and side_of(spec) > 16 else {}


def narrowed(spec: DataSpec, *, light: bool, **recipe: float) -> dict[str, Any]:
    """Defaults for small images: a width at which two cores take enough steps in minutes, and the recipe that suits it."""
    side = side_of(spec)
    return {"width": 16 if light or side <= 16 else 32, **recipe} if light or side <= 32 else {}


def pyramid(width: int, spec: DataSpec, *, smallest: int = 4, least: int = 2) -> tuple[list[tuple[int, int]], list[int]]:
    """The sides of each level, from the image down, and their channels: doubled with each halving, up to four times `width`.

    There are `least` levels of whatever small images: a single one would leave hardly a network. Half of a side of one is one.
    """
    sizes = halvings(image_of(spec).height, image_of(spec).width, smallest=smallest)
    while len(sizes) < least:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes, [width * min(2**level, 4) for level in range(len(sizes))]


def batch_deviation(h_BCHW: Tensor) -> Tensor:
    """The standard deviation over the batch, averaged to one plane B1HW (Karras et al. 2018, arXiv:1710.10196, section 3)."""
    centred_BCHW = h_BCHW - mean_over_processes(h_BCHW.mean(0))
    deviation = torch.sqrt(mean_over_processes(centred_BCHW.square().mean(0)) + 1e-8).mean()
    return deviation.expand(len(h_BCHW), 1, *h_BCHW.shape[2:])


class BatchDeviation(nn.Module):
    """h_BCHW -> the same with `batch_deviation` as one more channel, which shows D a collapsed batch."""

    def forward(self, h_BCHW: Tensor) -> Tensor:
        return torch.cat([h_BCHW, batch_deviation(h_BCHW)], dim=1)


class ClassNoise(nn.Module):
    """z_BZ and class_B -> z and a learned vector of the class, side by side; without classes, z alone."""

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, latent) if classes else None
        self.width = 2 * latent if classes else latent

    def forward(self, z_BZ: Tensor, condition_B: Tensor | None) -> Tensor:
        return z_BZ if self.embed is None else torch.cat([z_BZ, self.embed(condition_B)], dim=1)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) over the batch of all processes, twice differentiable."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(x_BCHW)
        mean_C = mean_over_processes(x_BCHW.mean((0, 2, 3)))
        centred_BCHW = x_BCHW - mean_C[:, None, None]
        variance_C = mean_over_processes(centred_BCHW.square().mean((0, 2, 3)))
        self._follow(mean_C.detach(), variance_C.detach(), n=processes() * x_BCHW.numel() // x_BCHW.shape[1])
        normed_BCHW = centred_BCHW * (variance_C + self.eps).rsqrt()[:, None, None]
        return normed_BCHW * self.weight[:, None, None] + self.bias[:, None, None] if self.affine else normed_BCHW

    def _follow(self, mean_C: Tensor, variance_C: Tensor, *, n: int) -> None:
        """Move the running moments; the variance is the one without bias."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C * n / (n - 1), self.momentum)
        self.num_batches_tracked.add_(1)


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and bias depend on the class; without classes, plain batch normalisation."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels, affine=classes == 0)
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
