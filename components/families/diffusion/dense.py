"""The denoiser's network for items of few values, in place of the U-Net: residual blocks of linear layers, told time and class.

    u = s(W_2 s(W_1 e(t)) + v_class),   h <- h + W_i2 s(W_i1 s((1 + a_i) n(h) + b_i)),   a_i, b_i linear in u

e(t) are the sines and cosines of arXiv:1706.03762, section 3.5. Beside each value stand waves of it: where noise is low, points a
hundredth of the data's range apart have other answers. Of a text v is linear in the mean of its rows.

B batch, C channels, H height, W width, N = C H W values in, F features, E of the embedding.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from components.families.dense import waves_of, with_waves
from components.families.texts import mean_row

TIME_SPAN = 10_000.0


class TimedBlock(nn.Module):
    """h_BF + f(h_BF; u_BE)."""

    def __init__(self, width: int, embedding: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.affine = nn.Linear(embedding, 2 * width)
        self.body = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width))

    def forward(self, h_BF: Tensor, u_BE: Tensor) -> Tensor:
        scale_BF, shift_BF = self.affine(u_BE).chunk(2, dim=1)
        out: Tensor = h_BF + self.body(self.norm(h_BF) * (1 + scale_BF) + shift_BF)
        return out


class DenseDenoiser(nn.Module):
    """x_B(C)HW, time_B (about 0 to 1,000 in size), class_B -> (answers_B(C')HW,), called as diffusers' UNet2DModel is.

    It gives almost zero at first, so that the layers before its last one learn from the first step.
    """

    frequencies_E: Tensor

    def __init__(
        self, shape_in: tuple[int, ...], shape_out: tuple[int, ...], *, width: int, blocks: int, dropout: float, classes: int,
        features: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape_out = shape_out
        values = waves_of(math.prod(shape_in))
        embedding = width // 2
        waves = embedding // 2
        self.register_buffer("frequencies_E", TIME_SPAN ** (-torch.arange(waves) / waves), persistent=False)
        self.time = nn.Sequential(nn.Linear(2 * waves, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.classes = nn.Embedding(classes, embedding) if classes else None
        self.text = nn.Linear(features, embedding, bias=False) if features else None
        if self.text is not None:
            nn.init.normal_(self.text.weight, std=1 / math.sqrt(features))  # as loud as a table of classes
        self.stem = nn.Linear(values, width)
        self.blocks = nn.ModuleList(TimedBlock(width, embedding, dropout=dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, math.prod(shape_out))
        nn.init.normal_(self.head.weight, std=1e-4)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, x_BCHW: Tensor, time_B: Tensor, class_labels: Tensor | None = None, *, return_dict: bool = False
    ) -> tuple[Tensor]:
        del return_dict
        angle_BE = time_B[:, None] * self.frequencies_E
        u_BE = self.time(torch.cat([angle_BE.sin(), angle_BE.cos()], dim=1))
        if self.classes is not None:
            u_BE = u_BE + self.classes(class_labels)
        if self.text is not None and class_labels is not None:
            u_BE = u_BE + self.text(mean_row(class_labels))
        u_BE = nn.functional.silu(u_BE)
        h_BF = self.stem(with_waves(x_BCHW.flatten(1)))
        for block in cast("list[TimedBlock]", self.blocks):
            h_BF = block(h_BF, u_BE)
        answers: Tensor = self.head(nn.functional.silu(self.norm(h_BF)))
        return (answers.unflatten(1, self.shape_out),)
