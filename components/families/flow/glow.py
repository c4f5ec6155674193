"""Glow (Kingma & Dhariwal 2018, arXiv:1807.03039): steps of activation normalisation, invertible 1x1 convolution and coupling.

Each scale: a squeeze, `depth` steps (fig. 2), and half of the values leaves. The couplings alternate between the halves of the
channels, so that places which padding keeps from the convolution move as well. An image of a single place is not squeezed: the
steps mix its own channels.

Classes move the means and deviations of the latent Gaussian (as the paper's class-conditional prior).

C channels, H height, W width.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import Field
from torch import Tensor

from components.core.card import Card
from components.core.records import DataSpec
from components.families.dense import if_few
from components.families.flow.flow import Flow, FlowConfig
from components.families.flow.layers import ActNorm, Bijection, ChannelCoupling, CheckerboardCoupling, InvertibleConv
from components.families.flow.multiscale import scales_default
from components.families.flow.networks import PlaceDense, convolutions
from components.families.images import image_of


class GlowConfig(FlowConfig):
    depth: int = Field(default=4, ge=1, description="steps at each scale; 32 in the paper's runs of days")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Scales as in table 3 of the paper: 3 at side 32, 4 at 64, 6 at 256."""
        return super().defaults(spec, light=light) | {"scales": scales_default(spec, fewer=2)} | if_few(spec, depth=12)


class Glow(Flow):
    """Exact density, exact latent code and one-pass sampling; the better density of the two flows."""

    card = Card(
        family="flow",
        variant="glow",
        title="Glow: actnorm, invertible 1x1 convolutions and affine couplings",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="exact",
        latent=True,
        steps=1,
        side_max=256,
        data_appetite=1_000,
        invertible=True,
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1807.03039", "arXiv:1605.08803", "arXiv:1902.00275"),
    )
    Config = GlowConfig
    config: GlowConfig
    learned_prior = True

    def steps(self, own_CHW: Tensor, squeezed: bool, last: bool) -> Sequence[Bijection]:
        dense = self.config.dense
        one_place = dense or image_of(self.spec).height == image_of(self.spec).width == 1
        if squeezed == one_place:
            return ()
        make = partial(PlaceDense, width=self.config.width, blocks=1) if dense else partial(convolutions, width=self.config.width)
        kind = CheckerboardCoupling if one_place else ChannelCoupling
        layers: list[Bijection] = []
        for number in range(self.config.depth):
            coupling = kind(own_CHW, make, odd=bool(number % 2), bound=self.config.bound)
            layers += [ActNorm(own_CHW), InvertibleConv(own_CHW, dense=dense), coupling]
        return layers
