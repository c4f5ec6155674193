"""The gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328) over any grid of integers.

    y = tanh(W_f * x + V_f h) . sigmoid(W_g * x + V_g h)                                                     (eqs. 2 and 4)

A vertical stack sees the rows above, a horizontal one what is to the left in the row and, through a 1x1 link, the vertical
stack: together all that comes before, without a blind spot (section 2.2, figure 2). The features of the horizontal stack are
split into one group a channel; group c sees the channels before c of its own pixel (masks A and B of arXiv:1601.06759).

Drawing computes the vertical stack once a row and the horizontal one once a value, from what the row above and the pixel to
the left kept (Ramachandran et al. 2017, arXiv:1704.06001): the cost of a grid does not grow with the square of its size.

B batch, C channels, H height, W width, K values, P planes of the input, F features.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.families.autoregressive.grid import Grid, GridModel, Index, inverse_cdf, to_data_units


class Planes(nn.Module):
    """values_BCHW -> planes_BPHW: each level as a number, or each name as an entry of a table; and a plane of ones.

    The ones tell the inside of the grid from the zeros around it. `groups_P` is the channel each plane speaks of, -1 for ones.
    """

    def __init__(self, grid: Grid, *, size: int) -> None:
        super().__init__()
        self.values = grid.values
        self.table = None if grid.ordinal else nn.Embedding(grid.channels * grid.values, size)
        self.groups_P = torch.arange(grid.channels).repeat_interleave(1 if grid.ordinal else size)
        self.groups_P = torch.cat([self.groups_P, torch.tensor([-1])])
        self.register_buffer("offsets_C11", torch.arange(grid.channels).view(-1, 1, 1) * grid.values, persistent=False)

    offsets_C11: Tensor

    def forward(self, values_BCHW: Tensor) -> Tensor:
        if self.table is None:
            planes_BPHW = to_data_units(values_BCHW, self.values)
        else:
            planes_BPHW = self.table(values_BCHW + self.offsets_C11).permute(0, 1, 4, 2, 3).flatten(1, 2)
        return torch.cat([planes_BPHW, torch.ones_like(planes_BPHW[:, :1])], dim=1)


class Masked(nn.Module):
    """A convolution over a row, of `taps` pixels to the left and the present one, of which it sees only the groups allowed."""

    mask_FPT: Tensor

    def __init__(self, groups_in: Tensor, groups_out: Tensor, *, taps: int = 0, strict: bool = False) -> None:
        super().__init__()
        layer = nn.Conv1d(len(groups_in), len(groups_out), taps + 1)
        self.weight, self.bias = layer.weight, layer.bias
        seen = groups_in[None] < groups_out[:, None] if strict else groups_in[None] <= groups_out[:, None]
        mask_FPT = torch.ones_like(layer.weight)
        mask_FPT[:, :, -1] = seen.float()
        self.register_buffer("mask_FPT", mask_FPT, persistent=False)

    def forward(self, x_BPHW: Tensor) -> Tensor:
        taps = self.weight.shape[2] - 1
        return F.conv2d(F.pad(x_BPHW, (taps, 0)), (self.weight * self.mask_FPT).unsqueeze(2), self.bias)

    def at(self, x_BPT: Tensor) -> Tensor:
        """One pixel from its taps: [B, P, T] -> [B, F]."""
        return F.linear(x_BPT.flatten(1), (self.weight * self.mask_FPT).flatten(1), self.bias)


class Layer(nn.Module):
    """One layer of both stacks (figure 2): v, h -> v, h. The first one reads the planes and has no residual."""

    def __init__(self, groups_in: Tensor, groups_out: Tensor, *, classes: int, radius: int, first: bool, dropout: float) -> None:
        super().__init__()
        features, self.radius, self.first = len(groups_out), radius, first
        twice = torch.cat([groups_out, groups_out])
        rows = radius + (0 if first else 1)  # the first one is shifted: it sees the rows above only
        self.vertical = nn.Conv2d(len(groups_in), 2 * features, (rows, 2 * radius + 1))
        self.link = nn.Conv2d(2 * features, 2 * features, 1)
        self.horizontal = Masked(groups_in, twice, taps=radius, strict=first)
        self.out = Masked(groups_out, groups_out)
        self.classes = nn.Embedding(classes, 4 * features) if classes else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, v_BPHW: Tensor, h_BPHW: Tensor, labels_B: Tensor | None) -> tuple[Tensor, Tensor]:
        above = F.pad(v_BPHW, (self.radius, self.radius, self.radius, 0))
        v_BFHW, link_BFHW = self.down(above[:, :, :-1] if self.first else above, labels_B)
        out_BFHW = self.out(self.dropout(gate(self.horizontal(h_BPHW) + link_BFHW)))
        return v_BFHW, out_BFHW if self.first else h_BPHW + out_BFHW

    def down(self, above_BPHW: Tensor, labels_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """The vertical stack, of padded rows: its features and what it gives to the horizontal stack."""
        both = self.vertical(above_BPHW)
        link_BFHW = self.link(both)
        if self.classes is not None:
            assert labels_B is not None
            v_BF, h_BF = self.classes(labels_B)[:, :, None, None].chunk(2, dim=1)
            both, link_BFHW = both + v_BF, link_BFHW + h_BF
        return gate(both), link_BFHW

    def across(self, taps_BPT: Tensor, link_BF: Tensor) -> Tensor:
        """The horizontal stack at one pixel, of it and those to its left."""
        out_BF = self.out.at(self.dropout(gate(self.horizontal.at(taps_BPT) + link_BF))[:, :, None])
        return out_BF if self.first else taps_BPT[:, :, -1] + out_BF


class GatedPixelCNN(GridModel):
    """A softmax over the K values of each channel, from `blocks` gated layers over a first one of side `kernel`."""

    def __init__(self, grid: Grid, *, width: int, blocks: int, kernel: int = 7, dropout: float = 0.0) -> None:
        super().__init__(grid)
        self.width, self.radius = width, kernel // 2
        self.planes = Planes(grid, size=width)
        groups_F = torch.arange(width) * grid.channels // width
        first = Layer(self.planes.groups_P, groups_F, classes=grid.classes, radius=self.radius, first=True, dropout=0.0)
        later = [Layer(groups_F, groups_F, classes=grid.classes, radius=1, first=False, dropout=dropout) for _ in range(blocks)]
        self.layers = nn.ModuleList([first, *later])
        self.hidden = Masked(groups_F, groups_F)
        self.logits = Masked(groups_F, torch.arange(grid.channels).repeat_interleave(grid.values))
        self.register_buffer("left_T", torch.arange(-self.radius, 1), persistent=False)

    left_T: Tensor

    @property
    def stack(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def log_prob(self, values_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        v = h = self.planes(values_BCHW)
        for layer in self.stack:
            v, h = layer(v, h, labels_B)
        logits = self.logits(F.relu(self.hidden(F.relu(h))))
        logits_BKCHW = logits.unflatten(1, (self.grid.channels, self.grid.values)).transpose(1, 2)
        return -F.cross_entropy(logits_BKCHW, values_BCHW, reduction="none")

    def carried(self, uniform_BCHW: Tensor) -> tuple[Tensor, ...]:
        """The row above the first, of the input of each layer but the first: zeros, as in the padding."""
        row = uniform_BCHW.new_zeros(uniform_BCHW.shape[0], self.width, 1, uniform_BCHW.shape[3])
        return tuple(row.clone() for _ in self.stack[1:])

    def row(
        self, i: Index, values_BCHW: Tensor, carried: Sequence[Tensor], labels_B: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The vertical stack of one row: the features it carries down, its links, and nothing to the left of the first pixel."""
        above = self._planes_above(values_BCHW, self.left_T[:-1] + i)
        v, link = self.stack[0].down(F.pad(above, (self.radius, self.radius)), labels_B)
        below, links = [], [link[:, :, 0]]
        for layer, last in zip(self.stack[1:], carried, strict=True):
            below.append(v)
            v, link = layer.down(F.pad(torch.cat([last, v], dim=2), (1, 1)), labels_B)
            links.append(link[:, :, 0])
        return tuple(below), tuple(links), tuple(v.new_zeros(v.shape[0], self.width) for _ in below)

    def pixel(
        self,
        at: tuple[Index, Index],
        values_BCHW: Tensor,
        uniform_BC: Tensor,
        context: Sequence[Tensor],
        state: Sequence[Tensor],
        labels_B: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The horizontal stack at one pixel, once for each channel: a group's features wait for the channels before it."""
        i, j = at
        row_BC1W = values_BCHW.index_select(2, self.left_T[-1:] + i)
        left_BCT = row_BC1W.index_select(3, (self.left_T + j).clamp(min=0))[:, :, :, :-1]
        links = [link.index_select(2, self.left_T[-1:] + j)[:, :, 0] for link in context]
        drawn = torch.zeros_like(row_BC1W[:, :, 0, 0])
        inside = (self.left_T + j >= 0).to(uniform_BC.dtype)
        for channel in range(self.grid.channels):
            taps = self.planes(torch.cat([left_BCT, drawn[:, :, None, None]], dim=3)) * inside
            features = self._across(taps[:, :, 0], links, state)
            logits_BK = self._logits(features[-1], channel)
            value_B = inverse_cdf(logits_BK.softmax(1), uniform_BC[:, channel])
            drawn = torch.cat([drawn[:, :channel], value_B[:, None], drawn[:, channel + 1 :]], dim=1)
        return drawn, tuple(features[:-1])

    def _across(self, taps_BPT: Tensor, links: Sequence[Tensor], state: Sequence[Tensor]) -> list[Tensor]:
        """The horizontal features of every layer at one pixel, given those of the pixel to its left."""
        features = [self.stack[0].across(taps_BPT, links[0])]
        for layer, link_BF, left_BF in zip(self.stack[1:], links[1:], state, strict=True):
            features.append(layer.across(torch.stack([left_BF, features[-1]], dim=2), link_BF))
        return features

    def _logits(self, h_BF: Tensor, channel: int) -> Tensor:
        hidden_BF = F.relu(self.hidden.at(F.relu(h_BF)[:, :, None]))
        logits_BN = self.logits.at(hidden_BF[:, :, None])
        logits_BCK: Tensor = logits_BN.unflatten(1, (self.grid.channels, self.grid.values))
        return logits_BCK[:, channel]

    def _planes_above(self, values_BCHW: Tensor, rows_N: Tensor) -> Tensor:
        """The planes of some rows; those above the first are zeros, as in the padding."""
        planes_BPNW: Tensor = self.planes(values_BCHW.index_select(2, rows_N.clamp(min=0)))
        return planes_BPNW * (rows_N >= 0).to(planes_BPNW.dtype).view(1, 1, -1, 1)


def gate(x: Tensor) -> Tensor:
    """The two halves of the features as eq. 2 joins them."""
    f, g = x.chunk(2, dim=1)
    return torch.tanh(f) * torch.sigmoid(g)
