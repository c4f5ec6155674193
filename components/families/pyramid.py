"""Encoder and decoder of the families whose latent is one vector: a pyramid of residual blocks and a linear layer.

B batch, C channels, H height, W width, Z latent size, K classes; classes enter as planes of the image and as entries of the code.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.records import DataSpec
from components.families.blocks import ResidualBlock, Upsample, fold, folded, group_norm, halvings, unfold
from components.families.dense import Dense, DenseConfig, if_few
from components.families.images import image_of, side_of


class PyramidConfig(DenseConfig):
    """The sizes of encoder and decoder."""

    width: int = Field(
        default=32, ge=16, description="channels at full resolution; they double with each halving, up to four times"
    )
    latent: int = Field(default=6, ge=2)
    patch: int = Field(
        default=1, ge=1, le=8, description="pixels a side that enter as one place; 2 above side 16 on a CPU, for more steps"
    )
    blocks: int = Field(default=1, ge=1, description="residual blocks at each resolution")
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """A code of no more numbers than the image has values, and of two at least."""
        patch = {"patch": 2} if light and side_of(spec) > 16 else {}
        latent = max(2, min(cls.model_fields["latent"].default, math.prod(spec.shape)))
        return {"latent": latent} | patch | if_few(spec, width=128, blocks=2)


class Encoder(nn.Module):
    """x_B(C+K)HW -> `outputs` numbers an item."""

    def __init__(self, config: PyramidConfig, spec: DataSpec, *, outputs: int) -> None:
        super().__init__()
        planes = image_of(spec).channels + (len(spec.classes) if spec.conditional else 0)
        if config.dense:
            values = planes * math.prod(spec.shape[1:])
            self.body: nn.Module = Dense(values, outputs, width=config.width, blocks=config.blocks)
            self.head: nn.Module = nn.Identity()
            return
        sizes, widths = _levels(config, spec)
        layers: list[nn.Module] = [*fold(spec, config.patch), nn.Conv2d(planes * config.patch**2, widths[0], 3, padding=1)]
        for level, (width, following) in enumerate(pairwise([*widths, widths[-1]])):
            layers += [ResidualBlock(width, width, dropout=config.dropout) for _ in range(config.blocks)]
            if level < len(sizes) - 1:
                layers.append(nn.Conv2d(width, following, 3, stride=2, padding=1))
        layers += [group_norm(widths[-1]), nn.SiLU(), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * math.prod(sizes[-1]), outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x_BCHW))
        return out


class Decoder(nn.Module):
    """z_B(Z+K) -> the mean of x_BCHW."""

    def __init__(self, config: PyramidConfig, spec: DataSpec) -> None:
        super().__init__()
        inputs = config.latent + (len(spec.classes) if spec.conditional else 0)
        self.start: tuple[int, ...] = spec.shape
        if config.dense:
            self.stem: nn.Module = Dense(inputs, math.prod(spec.shape), width=config.width, blocks=config.blocks)
            self.body: nn.Module = nn.Identity()
            return
        sizes, widths = _levels(config, spec)
        self.stem = nn.Linear(inputs, widths[-1] * math.prod(sizes[-1]))
        self.start = (widths[-1], *sizes[-1])
        layers: list[nn.Module] = []
        for level in reversed(range(len(sizes))):
            layers += [ResidualBlock(widths[level], widths[level], dropout=config.dropout) for _ in range(config.blocks)]
            if level:
                layers.append(Upsample(widths[level], widths[level - 1], sizes[level - 1]))
        planes = image_of(spec).channels * config.patch**2
        layers += [group_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], planes, 3, padding=1), *unfold(spec, config.patch)]
        self.body = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        x_BCHW: Tensor = self.body(self.stem(z).unflatten(1, self.start))
        return x_BCHW


def with_class(z_BZ: Tensor, labels_B: Tensor | None, spec: DataSpec) -> Tensor:
    """z_BZ with the class appended as one of K entries, where the data has classes to condition on."""
    if not spec.conditional:
        return z_BZ
    assert labels_B is not None
    return torch.cat([z_BZ, F.one_hot(labels_B, len(spec.classes)).to(z_BZ.dtype)], dim=1)


def with_planes(x_BCHW: Tensor, labels_B: Tensor | None, spec: DataSpec) -> Tensor:
    """x_BCHW with the class appended as one of K planes, where the data has classes to condition on."""
    if not spec.conditional:
        return x_BCHW
    assert labels_B is not None
    planes = F.one_hot(labels_B, len(spec.classes)).to(x_BCHW.dtype)[:, :, None, None]
    return torch.cat([x_BCHW, planes.expand(-1, -1, *x_BCHW.shape[2:])], dim=1)


def _levels(config: PyramidConfig, spec: DataSpec) -> tuple[list[tuple[int, int]], list[int]]:
    """The sides of each level and their channels."""
    seen = image_of(folded(spec, config.patch))
    sizes = halvings(seen.height, seen.width)
    return sizes, [config.width * min(2**level, 4) for level in range(len(sizes))]
