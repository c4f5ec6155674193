"""Diffusion transformers (DiT, Peebles & Xie 2022, arXiv:2212.09748): latent diffusion in discrete steps by a transformer.

Squares of codes are its tokens, and time and class scale, shift and gate each block (adaLN-Zero, section 3.2). The network is
diffusers' DiTTransformer2DModel, in which each block embeds time and class for itself. One that was made elsewhere as a
DiTPipeline is one of these; learned variances (L_hybrid, section 4) are learnt on, and the ancestral solver draws with them.

Its label beyond the classes stands for none of them, whatever the guidance is. Sides are padded to a square of whole tokens.

B batch, Z channels of the code, h and w its sides.
"""

from math import gcd
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.card import Card
from components.core.records import DataSpec
from components.families.diffusion.given import TRANSFORMER, built, labels_of, ready
from components.families.diffusion.ldm import LDM, LDMConfig
from components.families.diffusion.network import DiffusionConfig
from components.families.diffusion.pipelines import dit_pipeline
from components.families.diffusion.steps import StepDenoiser
from components.families.images import image_of, side_of, to_square

HEAD = 32  # features of a head of attention, at most
TOKENS_MAX = 64  # by default


class DiTConfig(LDMConfig):
    width: int = Field(default=128, ge=16, multiple_of=16, description="features of a token; 64 up to side 16 and on a CPU")
    blocks: int = Field(default=4, ge=1, description="blocks of attention and linear layers, one after another")
    patch: int = Field(default=1, ge=1, le=8, description="codes a side of a token; 2 where there were more than 64 tokens")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        found = super().defaults(spec, light=light)
        side = -(-side_of(spec) // 2 ** found["halve"])
        narrow = {"width": 64, "blocks": 3} if light or side_of(spec) <= 16 else {"width": 128}
        return found | ({} if found.get("dense") else {"patch": 2 if side**2 > TOKENS_MAX else 1} | narrow)

    @property
    def divides(self) -> int:
        return super().divides if self.dense or self.network else self.patch

    def padding(self, height: int, width: int) -> tuple[int, int]:
        if self.dense or self.network:
            return super().padding(height, width)
        return to_square(height, width, multiple=self.patch)


class TransformerDenoiser(StepDenoiser):
    """The denoiser by a transformer."""

    def said(self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor | None) -> Tensor:
        """Without classes it is asked for the only label there is."""
        return super().said(x_BCHW, time_B, torch.zeros_like(time_B, dtype=torch.int64) if condition_B is None else condition_B)

    def _made(self, config: DiffusionConfig, spec: DataSpec, ends: tuple[int, int], *, classes: int) -> nn.Module:
        if config.dense:
            return super()._made(config, spec, ends, classes=classes)
        if getattr(config, "network", None):
            return super()._made(config, spec, ends, classes=self.classes)
        return ready(_transformer(config, (image_of(spec).height + self.pad[0]) // config.patch, ends, classes=self.classes))


def _transformer(config: DiffusionConfig, side: int, ends: tuple[int, int], *, classes: int) -> nn.Module:
    """From so many channels to so many. Its blocks begin as almost the identity (section 3.2), and it gives almost zero: their
    layers learn from the first step."""
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    head = gcd(config.width, HEAD)
    sizes = {"num_attention_heads": config.width // head, "attention_head_dim": head, "num_layers": config.blocks}
    of_tokens = {"sample_size": side, "patch_size": 1}  # the squares are channels already
    net = built(
        DiTTransformer2DModel, {"_class_name": TRANSFORMER}, **sizes, **of_tokens, dropout=config.dropout,
        in_channels=ends[0] * config.patch**2, out_channels=ends[1] * config.patch**2, num_embeds_ada_norm=labels_of(classes),
    )  # fmt: skip
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(("norm1.linear", "proj_out_1", "proj_out_2")):
            nn.init.normal_(layer.weight, std=1e-4)
            nn.init.zeros_(layer.bias)
    return net


class DiT(LDM):
    """Diffusion that grows by depth and width alone: what large latent models are made of today."""

    card = Card(
        family="diffusion",
        variant="dit",
        title="Diffusion transformer (DiT) on the codes of an autoencoder, in discrete steps",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="none",
        latent=True,
        steps=50,
        side_max=1024,
        data_appetite=2_000,
        stepwise=True,
        on_codes=True,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        student="dit",
        student_steps=(8, 4, 2, 1),
        loop_above=4,
        student_rate=0.5,
        student_halves=True,
        references=("arXiv:2212.09748", "arXiv:2112.10752"),
    )
    Config = DiTConfig
    config: DiTConfig

    def make_denoiser(self, codes: DataSpec) -> nn.Module:
        return TransformerDenoiser(self.config, codes)

    def as_pipeline(self, autoencoder: nn.Module) -> Any:
        return dit_pipeline(self.denoiser.net, autoencoder, self.config, classes=self.spec.classes)
