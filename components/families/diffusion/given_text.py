"""Networks that a text steers, as Stable Diffusion and AuraFlow have them, called as the networks here are.

They were trained with all rows that their encoder makes of a text, those of the padding too, and for "nothing in particular" they
know what the encoder makes of "". That is kept beside them, and stands in the place of rows that are all zero.

B batch, C channels, H height, W width, L rows of a text, D features of a row.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from components.core.records import EmbeddingCondition


class ByText(nn.Module):
    """x_BCHW, time_B (0 to 1,000), text_BLD -> (out_BCHW,), called as diffusers' UNet2DModel is."""

    none_LD: Tensor

    def __init__(self, text: EmbeddingCondition) -> None:
        super().__init__()
        self.register_buffer("none_LD", torch.zeros(text.given_shape))

    def forward(self, x_BCHW: Tensor, time_B: Tensor, class_labels: Tensor, *, return_dict: bool = False) -> tuple[Tensor]:
        del return_dict
        empty_B11 = (class_labels == 0).all(2).all(1).view(-1, 1, 1)
        return (self.said(x_BCHW, time_B, torch.where(empty_B11, self.none_LD, class_labels)),)

    @abstractmethod
    def said(self, x_BCHW: Tensor, time_B: Tensor, rows_BLD: Tensor) -> Tensor:
        """What the network gives of rows that are never all zero, out_BCHW."""


class AskedByText(ByText):
    """`unet` is diffusers' UNet2DConditionModel."""

    def __init__(self, unet: nn.Module, text: EmbeddingCondition) -> None:
        super().__init__(text)
        self.unet = unet

    def said(self, x_BCHW: Tensor, time_B: Tensor, rows_BLD: Tensor) -> Tensor:
        out_BCHW: Tensor = self.unet(x_BCHW, time_B, rows_BLD, return_dict=False)[0]
        return out_BCHW


class FlowByText(ByText):
    """`transformer` is diffusers' AuraFlowTransformer2DModel, whose time is from 0 to 1."""

    def __init__(self, transformer: nn.Module, text: EmbeddingCondition) -> None:
        super().__init__(text)
        self.transformer = transformer

    def said(self, x_BCHW: Tensor, time_B: Tensor, rows_BLD: Tensor) -> Tensor:
        out_BCHW: Tensor = self.transformer(x_BCHW, rows_BLD, time_B / 1000, return_dict=False)[0]
        return out_BCHW
