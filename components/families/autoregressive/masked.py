"""The gated PixelCNN of an item of few values: its masked layers over all values at once, without the rows that it has not.

    y = tanh(W_f x + V_f h) . sigmoid(W_g x + V_g h)                    (van den Oord et al. 2016, arXiv:1606.05328, eqs. 2 and 4)

Where an image is a single pixel, nothing is above it or to its left: a convolution multiplies padding, and what is left of the
PixelCNN are the masks over the channels of a pixel (masks A and B of arXiv:1601.06759), an autoencoder whose connections are
masked (Germain et al. 2015, arXiv:1502.03509). Of a few pixels, each value is a channel of one place.

B batch, C channels, H height, W width, T = C H W values, K levels of each, P inputs, F features.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.errors import BriefError
from components.families.autoregressive.gated import Masked, gate
from components.families.autoregressive.grid import Grid, GridModel, Index, inverse_cdf, to_data_units
from components.families.dense import waves_of, with_waves


class Inputs(nn.Module):
    """values_BT -> inputs_BP: of each level its number and waves of it, of each name an entry of a table. `groups_P` is the value
    that each speaks of."""

    def __init__(self, grid: Grid, *, values: int, size: int) -> None:
        super().__init__()
        self.levels = grid.values
        self.table = None if grid.ordinal else nn.Embedding(values * grid.values, size)
        self.groups_P = torch.arange(values).repeat(waves_of(1)) if grid.ordinal else torch.arange(values).repeat_interleave(size)
        self.register_buffer("offsets_T", torch.arange(values) * grid.values, persistent=False)

    offsets_T: Tensor

    def forward(self, values_BT: Tensor) -> Tensor:
        if self.table is not None:
            entries_BP: Tensor = self.table(values_BT + self.offsets_T).flatten(1)
            return entries_BP
        return with_waves(to_data_units(values_BT, self.levels))


class GatedLayer(nn.Module):
    """h_BF -> h_BF; the first one reads the inputs, sees only the values before, and has no residual."""

    def __init__(self, groups_in: Tensor, groups_out: Tensor, *, classes: int, first: bool, dropout: float) -> None:
        super().__init__()
        self.first = first
        self.both = Masked(groups_in, torch.cat([groups_out, groups_out]), strict=first)
        self.out = Masked(groups_out, groups_out)
        self.classes = nn.Embedding(classes, 2 * len(groups_out)) if classes else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, h_BF: Tensor, labels_B: Tensor | None) -> Tensor:
        both = self.both.at(h_BF[:, :, None])
        if self.classes is not None:
            both = both + self.classes(labels_B)
        out_BF = self.out.at(self.dropout(gate(both))[:, :, None])
        return out_BF if self.first else h_BF + out_BF


class MaskedGrid(GridModel):
    """A softmax over the K levels of each value, from `blocks` gated layers over a first one."""

    def __init__(self, grid: Grid, *, width: int, blocks: int, dropout: float = 0.0) -> None:
        super().__init__(grid)
        self.count = grid.channels * grid.height * grid.width
        if width < self.count:
            given = f"override.config.dense: a width of {width} for {self.count} values"
            raise BriefError(given, allowed=f"a width of {self.count} or more", do="raise it, or set dense: false")
        self.inputs = Inputs(grid, values=self.count, size=width)
        groups_F = torch.arange(width) * self.count // width
        first = GatedLayer(self.inputs.groups_P, groups_F, classes=grid.classes, first=True, dropout=0.0)
        later = [GatedLayer(groups_F, groups_F, classes=grid.classes, first=False, dropout=dropout) for _ in range(blocks)]
        self.layers = nn.ModuleList([first, *later])
        self.hidden = Masked(groups_F, groups_F)
        self.logits = Masked(groups_F, torch.arange(self.count).repeat_interleave(grid.values))

    def log_prob(self, values_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        values_BHWC = values_BCHW.permute(0, 2, 3, 1)
        values_BT = values_BHWC.flatten(1)
        logits_BKT = self._logits(values_BT, labels_B).transpose(1, 2)
        log_BT = -F.cross_entropy(logits_BKT, values_BT, reduction="none")
        log_BHWC: Tensor = log_BT.unflatten(1, values_BHWC.shape[1:])
        return log_BHWC.permute(0, 3, 1, 2)

    def draw(self, uniform_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """As channels of one pixel."""
        _, channels, height, width = uniform_BCHW.shape
        uniform_BT11 = uniform_BCHW.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]
        values_BT11 = super().draw(uniform_BT11, labels_B)
        return values_BT11.view(-1, height, width, channels).permute(0, 3, 1, 2)

    def pixel(
        self,
        at: tuple[Index, Index],
        values_BCHW: Tensor,
        uniform_BC: Tensor,
        context: Sequence[Tensor],
        state: Sequence[Tensor],
        labels_B: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All values, one after another."""
        drawn_BT = torch.zeros_like(values_BCHW[:, :, 0, 0])
        for number in range(self.count):
            p_BK = self._logits(drawn_BT, labels_B)[:, number].softmax(1)
            value_B = inverse_cdf(p_BK, uniform_BC[:, number])
            drawn_BT = torch.cat([drawn_BT[:, :number], value_B[:, None], drawn_BT[:, number + 1 :]], dim=1)
        return drawn_BT, ()

    def _logits(self, values_BT: Tensor, labels_B: Tensor | None) -> Tensor:
        """logits_BTK of each value given those before it."""
        h_BF = self.inputs(values_BT)
        for layer in cast("list[GatedLayer]", self.layers):
            h_BF = layer(h_BF, labels_B)
        hidden_BF = F.relu(self.hidden.at(F.relu(h_BF)[:, :, None]))
        logits_BTK: Tensor = self.logits.at(hidden_BF[:, :, None]).unflatten(1, (self.count, self.grid.values))
        return logits_BTK
