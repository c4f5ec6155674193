"""The denoiser's U-Net where items are asked for by a text: diffusers' UNet2DConditionModel, which attends to the text's tokens
at its lowest resolution (Rombach et al. 2022, arXiv:2112.10752, section 3.3).

    h <- h + softmax(Q(h) K(s)^T / sqrt(d)) V(s),     s = [n; y_1; ...; y_L] W            cross-attention of each attention block

y are the tokens' rows, each standardised, and n a row that is learned. It is always attended to, so of a text without rows it is
left alone, and that is what "nothing in particular" means here. Rows that are zero are hidden, so longer padding changes nothing.
The mean of the rows joins the embedding of time, as a class would: all resolutions know what the text is about, and the tokens
tell the details (Saharia et al. 2022, arXiv:2205.11487, section 2.3 and appendix D.1).

B batch, C channels, H height, W width, L rows of a text, D features of a row.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from components.core.imports import hidden
from components.families.texts import mean_row, with_start

HEAD = 32  # features of a head of attention, at most
SILU = 0.6  # the root mean square of silu(x), x ~ N(0, 1)


class TextUNet(nn.Module):
    """x_BCHW, time_B, text_BLD -> (out_BCHW,), called as diffusers' UNet2DModel is; `unet` is all of it but one row."""

    def __init__(self, unet: nn.Module, *, features: int) -> None:
        super().__init__()
        self.unet = unet
        self.start_D = nn.Parameter(torch.randn(features))

    def forward(self, x_BCHW: Tensor, time_B: Tensor, class_labels: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        del return_dict
        rows_BLD, known_BL = with_start(class_labels, self.start_D)
        out_BCHW: Tensor = self.unet(
            x_BCHW, time_B, rows_BLD, class_labels=mean_row(class_labels), encoder_attention_mask=known_BL, return_dict=False
        )[0]
        return (out_BCHW,)


def text_unet(config: Any, ends: tuple[int, int], *, features: int) -> TextUNet:
    """From so many channels to so many, as wide and deep as the config says (DiffusionConfig)."""
    with hidden("accelerate", "peft", "transformers"):
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    channels = tuple(config.width * multiple for multiple in config.widths)
    down, up = ["DownBlock2D"] * len(channels), ["UpBlock2D"] * len(channels)
    if config.attention and len(channels) > 1:
        down[-1], up[0] = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    unet = UNet2DConditionModel(
        sample_size=None,
        in_channels=ends[0] * config.patch**2,
        out_channels=ends[1] * config.patch**2,
        block_out_channels=channels,
        down_block_types=tuple(down),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=tuple(up),
        layers_per_block=config.blocks,
        norm_num_groups=min(32, config.width // 4),
        dropout=config.dropout,
        attention_head_dim=tuple(each // math.gcd(each, HEAD) for each in channels),  # it means the number of heads
        cross_attention_dim=channels[-1],
        encoder_hid_dim=features,
        encoder_hid_dim_type="text_proj",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=features,
    )
    _begin_as_a_table(unet.class_embedding.linear_1, unet.class_embedding.linear_2)
    return TextUNet(unet, features=features)


def _begin_as_a_table(first: nn.Linear, second: nn.Linear) -> None:
    """So that the mean of a text is as loud beside the time as a table of classes, whose numbers have a deviation of 1: by
    diffusers' own beginning it is a tenth of that, and a short training hardly hears it."""
    for layer, deviation in ((first, 1.0), (second, SILU)):
        nn.init.normal_(layer.weight, std=1 / (deviation * math.sqrt(layer.in_features)))
        nn.init.zeros_(layer.bias)
