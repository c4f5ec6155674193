"""RealNVP (Dinh et al. 2017, arXiv:1605.08803): affine couplings with residual networks, chessboards and halves of channels.

Each scale: three couplings that alternate over a chessboard, a squeeze, three that alternate over halves of the channels, and
half of the values leaves; the last has four over a chessboard (sec. 3.6). After each coupling stands Glow's activation
normalisation where the paper has batch normalisation: the density of an item then depends on no other.

Classes move the means and deviations of the latent Gaussian; the paper has none.

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
from components.families.flow.layers import ActNorm, Bijection, ChannelCoupling, CheckerboardCoupling
from components.families.flow.multiscale import scales_default
from components.families.flow.networks import PlaceDense, residual
from components.families.images import side_of


class RealNVPConfig(FlowConfig):
    depth: int = Field(default=3, ge=1, description="couplings of each kind at each scale; one more at the last")
    blocks: int = Field(default=1, ge=1, description="residual blocks in each coupling's network; 2 to 8 in the paper")
    full: bool = Field(
        default=True,
        description="couplings at full resolution, before the first squeeze; not above side 16 on a CPU, for more steps",
    )

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        few = {"full": False} if light and side_of(spec) > 16 else {}
        deep = if_few(spec, depth=11)
        return super().defaults(spec, light=light) | {"scales": scales_default(spec, fewer=1)} | few | deep


class RealNVP(Flow):
    """Exact density, exact latent code and one-pass sampling; the cheaper of the two flows."""

    card = Card(
        family="flow",
        variant="realnvp",
        title="RealNVP: multi-scale affine couplings with residual networks",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="exact",
        latent=True,
        steps=1,
        side_max=64,
        data_appetite=1_000,
        invertible=True,
        starts=("scratch", "finetune", "lora"),
        references=("arXiv:1605.08803", "arXiv:1902.00275"),
    )
    Config = RealNVPConfig
    config: RealNVPConfig
    learned_prior = False

    def steps(self, own_CHW: Tensor, squeezed: bool, last: bool) -> Sequence[Bijection]:
        if squeezed and last:
            return ()
        config = self.config
        if not (config.full or squeezed or last) and tuple(own_CHW.shape) == self.spec.shape:
            return [ActNorm(own_CHW)]
        make = partial(PlaceDense if config.dense else residual, width=config.width, blocks=config.blocks)
        kind = ChannelCoupling if squeezed else CheckerboardCoupling
        layers: list[Bijection] = [ActNorm(own_CHW)]
        for number in range(config.depth + last):
            layers += [kind(own_CHW, make, odd=bool(number % 2), bound=config.bound), ActNorm(own_CHW)]
        return layers
