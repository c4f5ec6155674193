"""The two streams of PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517), whole for training and one pixel a time for drawing.

u sees the rows above (two rows by three columns), ul also what is to the left (two by two) and takes u in at each block. Blocks
are gated residuals of concatenated ELUs (sections 2.3 and 2.5); the side is halved `depth` - 1 times and comes back, with a
short-cut from each block down to its mirror up (section 2.4, figure 2). Here a side comes back by repeating pixels before a
shifted convolution, and weights are not normalised.

The passes over the streams are written once, for a `walk` that says how a convolution finds its neighbours: `Whole` has all of
the image, `RowWalk` one row of u and what the row above left, `PointWalk` one pixel of ul and what those before it left
(Ramachandran et al. 2017, arXiv:1704.06001). A pixel of a coarser level is due when the first pixel that it covers is.

B batch, H height, W width, P planes, F features; U the width of one level.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.families.autoregressive.grid import Index


class Shifted(nn.Module):
    """A convolution over the present row and that above: three columns for u, the left and the present one for ul.

    `slot` and `level` are its place among those of its stream and the level of what it reads.
    """

    def __init__(self, planes: int, features: int, *, above: bool, stride: int = 1) -> None:
        super().__init__()
        self.planes, self.stride = planes, stride
        self.slot, self.level = 0, 0
        self.sides = (1, 1) if above else (1, 0)
        layer = nn.Conv2d(planes, features, (2, 3 if above else 2))
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x_BPHW: Tensor) -> Tensor:
        return F.conv2d(F.pad(x_BPHW, (*self.sides, 1, 0)), self.weight, self.bias, self.stride)

    def row(self, two_BP2U: Tensor) -> Tensor:
        """One row of u from it and the row above."""
        return F.conv2d(F.pad(two_BP2U, self.sides), self.weight, self.bias, self.stride)

    def top(self, above_BPU: Tensor) -> Tensor:
        """What the row above gives to every pixel of a row of ul."""
        return F.conv1d(F.pad(above_BPU, self.sides), self.weight[:, :, 0], self.bias, self.stride)

    def point(self, left_BP1: Tensor, x_BP1: Tensor, top_BF1: Tensor) -> Tensor:
        """One pixel of ul: [B, F, 1]."""
        taps = torch.cat([left_BP1, x_BP1], dim=2).flatten(1)
        return F.linear(taps, self.weight[:, :, 1].flatten(1))[:, :, None] + top_BF1


class Whole:
    """All pixels at once."""

    def __init__(self) -> None:
        self.kept: dict[Pair, Tensor] = {}

    def __call__(self, layer: Shifted, x: Tensor) -> Tensor:
        return layer(x)  # type: ignore[no-any-return]

    def keep(self, pair: "Pair", u: Tensor) -> Tensor:
        self.kept[pair] = u
        return u

    def recall(self, pair: "Pair") -> Tensor:
        return self.kept[pair]

    def when(self, level: int, compute: Callable[[], Tensor]) -> Tensor:
        """What a coarser level gives, computed when a pixel of it is due."""
        return compute()

    def twice(self, x_BFHW: Tensor) -> Tensor:
        return F.interpolate(x_BFHW, scale_factor=2.0, mode="nearest")


class RowWalk(Whole):
    """Row i of u. It moves `above` (what each convolution read last), `rows` (of each pair) and `coarse` (of each level)."""

    def __init__(self, i: Index, above: list[Tensor], rows: list[Tensor], coarse: list[Tensor]) -> None:
        self.i, self.above, self.rows, self.coarse = i, above, rows, coarse
        self.due: bool | Tensor = True

    def __call__(self, layer: Shifted, x: Tensor) -> Tensor:
        above = self.above[layer.slot]
        self.above[layer.slot] = _choose(self.due, x, above)
        return layer.row(torch.cat([above, x], dim=2))

    def keep(self, pair: "Pair", u: Tensor) -> Tensor:
        self.rows[pair.slot] = _choose(self.due, u.clone(), self.rows[pair.slot])
        return u

    def when(self, level: int, compute: Callable[[], Tensor]) -> Tensor:
        before, self.due = self.due, self.i % 2**level == 0
        if self.due is not False:
            self.coarse[level - 1] = _choose(self.due, compute(), self.coarse[level - 1])
        self.due = before
        return self.coarse[level - 1]

    def twice(self, x_BFHW: Tensor) -> Tensor:
        return F.interpolate(x_BFHW, scale_factor=(1.0, 2.0), mode="nearest")


class PointWalk(Whole):
    """Pixel (i, j) of ul, given the rows of u and each convolution's `tops`.

    It moves `lefts` (the last pixel that each convolution read), `rows` (all that it read in this row) and `coarse`.
    """

    def __init__(
        self,
        at: tuple[Index, Index],
        u: list[Tensor],
        tops: list[Tensor],
        lefts: list[Tensor],
        rows: list[Tensor],
        coarse: list[Tensor],
    ) -> None:
        self.i, self.j = at
        self.u, self.tops, self.lefts, self.rows, self.coarse = u, tops, lefts, rows, coarse
        self.due: bool | Tensor = True

    def __call__(self, layer: Shifted, x: Tensor) -> Tensor:
        x_BP1, left_BP1, slot = x[..., 0], self.lefts[layer.slot], layer.slot
        self.lefts[slot] = _choose(self.due, x_BP1, left_BP1)
        self.rows[slot] = self._put(self.rows[slot], layer.level, x_BP1)
        read = layer.level + (1 if layer.stride == 2 else 0)
        return layer.point(left_BP1, x_BP1, self._column(self.tops[slot], read))[..., None]

    def recall(self, pair: "Pair") -> Tensor:
        return self._column(self.u[pair.slot][:, :, 0], pair.level)[..., None]

    def when(self, level: int, compute: Callable[[], Tensor]) -> Tensor:
        before, self.due = self.due, (self.i % 2**level == 0) & (self.j % 2**level == 0)
        if self.due is not False:
            self.coarse[level - 1] = self._put(self.coarse[level - 1], level, compute()[..., 0])
        self.due = before
        return self._column(self.coarse[level - 1], level)[..., None]

    def twice(self, x_BFHW: Tensor) -> Tensor:
        return x_BFHW

    def _index(self, level: int, like: Tensor) -> Tensor:
        index: Tensor = torch.zeros(1, dtype=torch.int64, device=like.device) + self.j // 2**level
        return index

    def _column(self, row_BFU: Tensor, level: int) -> Tensor:
        return row_BFU.index_select(2, self._index(level, row_BFU))

    def _put(self, row_BFU: Tensor, level: int, x_BF1: Tensor) -> Tensor:
        index = self._index(level, row_BFU)
        if torch.compiler.is_exporting():
            return row_BFU.index_copy(2, index, _choose(self.due, x_BF1, row_BFU.index_select(2, index)))
        return row_BFU.index_copy_(2, index, x_BF1)  # never called in torch when it is not due


class Block(nn.Module):
    """x + a sigmoid(b) with a, b from x, from another stream (or a short-cut) and from the class, after concatenated ELUs."""

    def __init__(self, features: int, *, above: bool, others: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.first = Shifted(2 * features, features, above=above)
        self.other = nn.Conv2d(2 * others * features, features, 1) if others else None
        self.classes = nn.Embedding(classes, 2 * features) if classes else None
        self.dropout = nn.Dropout(dropout)
        self.second = Shifted(2 * features, 2 * features, above=above)
        with torch.no_grad():
            self.second.weight.mul_(0.3)  # near the identity at first

    def forward(self, x: Tensor, other: Tensor | None, labels_B: Tensor | None, walk: Whole) -> Tensor:
        inner = walk(self.first, concat_elu(x))
        if self.other is not None:
            assert other is not None
            inner = inner + self.other(concat_elu(other))
        both = walk(self.second, self.dropout(concat_elu(inner)))
        if self.classes is not None:
            both = both + self.classes(labels_B)[:, :, None, None]
        a, b = both.chunk(2, dim=1)
        out: Tensor = x + a * torch.sigmoid(b)
        return out


class Pair(nn.Module):
    """A block of each stream; on the way up both take in the short-cut of their mirror. `slot` and `level` are its place."""

    def __init__(self, features: int, *, up: bool, classes: int, dropout: float, slot: int, level: int) -> None:
        super().__init__()
        self.slot, self.level = slot, level
        self.u = Block(features, above=True, others=int(up), classes=classes, dropout=dropout)
        self.ul = Block(features, above=False, others=1 + int(up), classes=classes, dropout=dropout)


class Streams(nn.Module):
    """planes_BPHW -> features_BFHW of which each pixel sees only the pixels before it. Sides are multiples of 2^(depth - 1)."""

    def __init__(self, planes: int, *, width: int, blocks: int, depth: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.start_u = nn.Conv2d(planes, width, (2, 3))
        self.start_above = nn.Conv2d(planes, width, (1, 3))
        self.start_left = nn.Conv2d(planes, width, (2, 1))
        pairs = [
            Pair(width, up=up, classes=classes, dropout=dropout, slot=2 * blocks * level + blocks * up + n, level=level)
            for level in range(depth)
            for up in (False, True)
            for n in range(blocks)
        ]
        self.down = nn.ModuleList(nn.ModuleList(pairs[2 * blocks * k :][:blocks]) for k in range(depth))
        self.up = nn.ModuleList(nn.ModuleList(pairs[2 * blocks * k + blocks :][:blocks]) for k in range(depth))
        for name, above in (("u", True), ("ul", False)):
            halve = [Shifted(width, width, above=above, stride=2) for _ in range(depth - 1)]
            double = [Shifted(width, width, above=above) for _ in range(depth - 1)]
            self.add_module(f"halve_{name}", nn.ModuleList(halve))
            self.add_module(f"double_{name}", nn.ModuleList(double))
            found = [
                (layer, pair.level) for pair in pairs for block in (getattr(pair, name),) for layer in (block.first, block.second)
            ]
            found += [(layer, level) for layers in (halve, double) for level, layer in enumerate(layers)]
            for slot, (layer, level) in enumerate(found):
                layer.slot, layer.level = slot, level

    halve_u: nn.ModuleList
    halve_ul: nn.ModuleList
    double_u: nn.ModuleList
    double_ul: nn.ModuleList

    def forward(self, x_BPHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """Both streams start shifted so that the present pixel is not seen: u with two rows above; ul with one and the left."""
        walk = Whole()
        self.pass_u(self.start_u(F.pad(x_BPHW, (1, 1, 2, 0))[:, :, :-1]), labels_B, walk)
        above = self.start_above(F.pad(x_BPHW, (1, 1, 1, 0))[:, :, :-1])
        return F.elu(self.pass_ul(above + self.start_left(F.pad(x_BPHW, (1, 0, 1, 0))[:, :, :, :-1]), labels_B, walk))

    def pass_u(self, u: Tensor, labels_B: Tensor | None, walk: Whole, level: int = 0) -> Tensor:
        """Down to the coarsest level and back up."""
        mirrors = []
        for pair in _pairs(self.down, level):
            u = walk.keep(pair, pair.u(u, None, labels_B, walk))
            mirrors.append(u)
        if level + 1 < self.depth:
            halved = walk(_layer(self.halve_u, level), u)
            coarse = walk.when(level + 1, lambda: self.pass_u(halved, labels_B, walk, level + 1))
            u = walk(_layer(self.double_u, level), walk.twice(coarse))
        for pair in _pairs(self.up, level):
            u = walk.keep(pair, pair.u(u, mirrors.pop(), labels_B, walk))
        return u

    def pass_ul(self, ul: Tensor, labels_B: Tensor | None, walk: Whole, level: int = 0) -> Tensor:
        """The same, with the u of each pair."""
        mirrors = []
        for pair in _pairs(self.down, level):
            ul = pair.ul(ul, walk.recall(pair), labels_B, walk)
            mirrors.append(ul)
        if level + 1 < self.depth:
            halved = walk(_layer(self.halve_ul, level), ul)
            coarse = walk.when(level + 1, lambda: self.pass_ul(halved, labels_B, walk, level + 1))
            ul = walk(_layer(self.double_ul, level), walk.twice(coarse))
        for pair in _pairs(self.up, level):
            ul = pair.ul(ul, torch.cat([walk.recall(pair), mirrors.pop()], dim=1), labels_B, walk)
        return ul

    def shifted(self, stream: str) -> list[Shifted]:
        """The convolutions of "u" or "ul" by slot."""
        parts = f".{stream}.", f"halve_{stream}.", f"double_{stream}."
        found = [
            module
            for name, module in self.named_modules()
            if isinstance(module, Shifted) and any(part in f"{name}." for part in parts)
        ]
        return sorted(found, key=lambda layer: layer.slot)

    def pairs(self) -> list[Pair]:
        """All pairs by slot."""
        return sorted((module for module in self.modules() if isinstance(module, Pair)), key=lambda pair: pair.slot)


def concat_elu(x: Tensor) -> Tensor:
    """elu([x, -x])."""
    return F.elu(torch.cat([x, -x], dim=1))


def _pairs(levels: nn.ModuleList, level: int) -> list[Pair]:
    return cast("list[Pair]", list(cast("nn.ModuleList", levels[level])))


def _layer(layers: nn.ModuleList, level: int) -> Shifted:
    return cast("Shifted", layers[level])


def _choose(due: Any, new: Tensor, old: Tensor) -> Tensor:
    return new if due is True else torch.where(due, new, old)
