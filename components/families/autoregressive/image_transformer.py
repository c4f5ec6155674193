"""A transformer over the values of an image, as ImageGPT (Chen et al. 2020, 'Generative pretraining from pixels')."""

from typing import Any

from pydantic import Field

from components.core.card import Card
from components.core.records import DataSpec
from components.families.autoregressive.family import PixelConfig, PixelFamily, pixel_grid
from components.families.autoregressive.transformer import GridTransformer
from components.families.dense import BATCH, few_values
from components.families.images import side_of


class ImageTransformerConfig(PixelConfig):
    meaning = ("heads",)
    lr_peak: float = 2e-3
    batch_size: int = 64
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    width: int = Field(default=64, ge=32, multiple_of=16, description="size of a token")
    blocks: int = Field(default=4, ge=1, description="transformer blocks")
    heads: int = Field(default=4, ge=1, le=16, description="attention heads; they divide the width")
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Small images, small batches and a shallow network: a batch of few has many tokens, and steps count more."""
        side = side_of(spec)
        shallow = {"blocks": 2, "lr_peak": 4e-3} if light or side <= 16 else {}
        batch = {"batch_size": BATCH} if few_values(spec) else {"batch_size": 16} if side <= 32 else {}
        return shallow | batch


class ImageTransformer(PixelFamily):
    """The exact probability of an image with a view of all that comes before; its cost grows with the square of the values."""

    card = Card(
        family="autoregressive",
        variant="image-transformer",
        title="Transformer over pixels with a softmax over the levels",
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
        references=("pmlr:v119/chen20s", "arXiv:1706.03762"),
    )
    Config = ImageTransformerConfig
    config: ImageTransformerConfig

    def __init__(self, config: ImageTransformerConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.model = GridTransformer(
            pixel_grid(spec), width=config.width, blocks=config.blocks, heads=config.heads, dropout=config.dropout
        )
