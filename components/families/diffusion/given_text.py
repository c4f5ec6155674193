"""A U-Net that a text steers, as Stable Diffusion has it, called as the networks here are.

It was trained with all rows that its encoder makes of a text, those of the padding too, and for "nothing in particular" it knows
what the encoder makes of "". That is kept beside it, and stands in the place of rows that are all zero.

B batch, C channels, H height, W width, L rows of a text, D features of a row.
"""

import torch
from torch import Tensor, nn

from components.core.records import EmbeddingCondition


class AskedByText(nn.Module):
    """x_BCHW, time_B, text_BLD -> (out_BCHW,), called as diffusers' UNet2DModel is; `unet` is diffusers' UNet2DConditionModel."""

    none_LD: Tensor

    def __init__(self, unet: nn.Module, text: EmbeddingCondition) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("none_LD", torch.zeros(text.given_shape))

    def forward(self, x_BCHW: Tensor, time_B: Tensor, class_labels: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        del return_dict
        empty_B11 = (class_labels == 0).all(2).all(1).view(-1, 1, 1)
        rows_BLD = torch.where(empty_B11, self.none_LD, class_labels)
        out_BCHW: Tensor = self.unet(x_BCHW, time_B, rows_BLD, return_dict=False)[0]
        return (out_BCHW,)
