"""Networks of items of few values: residual blocks of linear layers over all values at once.

A convolution has nothing to find in an image of one or a few pixels: of the nine weights of a 3x3 kernel one meets the value of a
single pixel, and eight multiply padding. Linear layers spend all their work on values, and batches can be large.

    h_0 = W x,   h_i = h_{i-1} + W_i2 s(W_i1 s(n(h_{i-1}))),   y = W' s(n(h_L))             (He et al. 2016, arXiv:1603.05027)

Whether a network is of this kind stands in its config, `dense`: a checkpoint from before there were such networks has none.

B batch, N numbers in, M out, F features.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.family import FamilyConfig
from components.core.records import DataSpec
from components.families.images import resized

FEW = 8  # values of an item that are few
FREQUENCIES = (1.0, 2.0, 4.0, 8.0)  # of the waves beside a value, in radians for a deviation of one

Layer = Callable[[int, int], nn.Module]
BATCH = 1024  # of such items: of fewer a step is mostly bookkeeping


class DenseConfig(FamilyConfig):
    dense: bool = Field(
        default=False,
        description=f"linear layers over all values of an item at once; by default where these are {FEW} at most",
    )


def few_values(spec: DataSpec) -> bool:
    """Whether an item has so few values that a linear layer over all of them is the network for it."""
    return math.prod(spec.shape) <= FEW


def one_place(spec: DataSpec) -> DataSpec:
    """The same values as channels of one place."""
    return resized(spec, channels=math.prod(spec.shape), height=1, width=1)


def if_few(spec: DataSpec, **recipe: Any) -> dict[str, Any]:
    """Defaults of linear layers for items of few values; none for others."""
    return {"dense": True, "batch_size": BATCH} | recipe if few_values(spec) else {}


class DenseBlock(nn.Module):
    """h_BF + f(h_BF), f of two pre-activated linear layers; f is small at first."""

    def __init__(
        self, width: int, *, norm: Callable[[int], nn.Module], activation: Callable[[], nn.Module], layer: Layer
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(norm(width), activation(), layer(width, width), activation(), layer(width, width))

    def forward(self, h_BF: Tensor) -> Tensor:
        out: Tensor = h_BF + self.body(h_BF)
        return out


class Dense(nn.Sequential):
    """x_BN (or of any shape of N values) -> y_BM."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        blocks: int,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        activation: Callable[[], nn.Module] = nn.SiLU,
        layer: Layer = nn.Linear,
    ) -> None:
        super().__init__(
            nn.Flatten(),
            layer(inputs, width),
            *(DenseBlock(width, norm=norm, activation=activation, layer=layer) for _ in range(blocks)),
            norm(width),
            activation(),
            layer(width, outputs),
        )


def with_waves(x_BN: Tensor) -> Tensor:
    """Each value, and its sines and cosines, `waves_of(N)` numbers: points that lie near each other are told apart sooner than by
    a network that starts smooth (Tancik et al. 2020, arXiv:2006.10739)."""
    waves = [wave for f in FREQUENCIES for wave in ((f * x_BN).sin(), (f * x_BN).cos())]
    return torch.cat([x_BN, *waves], dim=1)


def waves_of(values: int) -> int:
    return values * (1 + 2 * len(FREQUENCIES))
