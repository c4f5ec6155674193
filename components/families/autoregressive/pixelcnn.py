"""PixelCNN with gates (van den Oord et al. 2016, arXiv:1606.05328) on 8-bit images: a 256-way softmax for every value."""

from typing import Any, Literal

from pydantic import Field

from components.core.card import Card
from components.core.records import DataSpec
from components.families.autoregressive.family import PixelConfig, PixelFamily, pixel_grid
from components.families.autoregressive.gated import GatedPixelCNN
from components.families.autoregressive.masked import MaskedGrid
from components.families.dense import DenseConfig, if_few
from components.families.images import side_of


class PixelCNNConfig(PixelConfig, DenseConfig):
    lr_peak: float = 2e-3
    batch_size: int = 64
    width: int = Field(default=64, ge=16, description="features of each stack (p); 32 up to side 16 and on a CPU")
    blocks: int = Field(default=6, ge=1, description="gated layers after the first; 4 up to side 16 and on a CPU")
    kernel: Literal[3, 5, 7, 9, 11] = Field(default=7, description="side of the first layer's view; 5 up to side 16 and on a CPU")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Small images, small batches, as arXiv:1601.06759 has them, and a small network: steps count more than width."""
        side = side_of(spec)
        narrow = {"width": 32, "blocks": 4, "kernel": 5, "lr_peak": 4e-3} if light or side <= 16 else {}
        return narrow | ({"batch_size": 16} if side <= 32 else {}) | if_few(spec, width=128, blocks=2, dropout=0.0)


class PixelCNN(PixelFamily):
    """The exact probability of an image, and samples that follow it; one network evaluation a value."""

    card = Card(
        family="autoregressive",
        variant="pixelcnn",
        title="Gated PixelCNN with a softmax over the levels",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="exact",
        latent=False,
        steps=784,
        side_max=32,
        data_appetite=1_000,
        sequential="pixel",
        starts=("scratch", "finetune", "lora"),
        discrete=True,
        references=("arXiv:1606.05328", "arXiv:1601.06759"),
    )
    Config = PixelCNNConfig
    config: PixelCNNConfig

    def __init__(self, config: PixelCNNConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        grid, sizes = pixel_grid(spec), {"width": config.width, "blocks": config.blocks}
        if config.dense:
            self.model = MaskedGrid(grid, **sizes, dropout=config.dropout)
        else:
            self.model = GatedPixelCNN(grid, **sizes, kernel=config.kernel, dropout=config.dropout)
