"""Models of integer grids, one value after another: the loop that draws them, whatever network gives the probabilities.

    p(x | class) = prod_t p(x_t | x_<t, class),   t in raster order, the channels of a pixel one after another
                                                                        (van den Oord et al. 2016, arXiv:1601.06759, eq. 1)

A grid holds pixels (three channels of 256 values) or the codes of an autoencoder (one channel of K). A value is drawn from one
uniform number by the inverse of its cumulative distribution, so the same numbers give the same grid, in torch and in the graph.

B batch, C channels, H height, W width of the grid, K values.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.runtime.progress import counted

Index = int | Tensor  # a number, or in the graph a tensor of no dimensions


@dataclass(frozen=True)
class Grid:
    """What is modelled: [C, H, W] integers in [0, K). Ordinal values are levels of a scale, others are names."""

    channels: int
    height: int
    width: int
    values: int
    classes: int = 0  # 0: not conditional
    ordinal: bool = True


class GridModel(nn.Module, ABC):
    """p(values | class) of one kind of network, as a whole for training and pixel by pixel for drawing.

    Drawing walks over rows and pixels. What a row leaves for the rows below it is `carried`; what it computes once for all its
    pixels is its `context`; what a pixel leaves for those to its right is `state`. A model keeps what it needs of the three.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    @abstractmethod
    def log_prob(self, values_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """log p(x_t | x_<t) of every value in nats: float [B, C, H, W] for int64 [B, C, H, W]."""

    @abstractmethod
    def pixel(
        self,
        at: tuple[Index, Index],
        values_BCHW: Tensor,
        uniform_BC: Tensor,
        context: Sequence[Tensor],
        state: Sequence[Tensor],
        labels_B: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Draw the pixel at (row, column), given the values before it: int64 [B, C], and the state for the next pixel."""

    def carried(self, uniform_BCHW: Tensor) -> tuple[Tensor, ...]:
        """What the first row gets from above it."""
        return ()

    def row(
        self, i: Index, values_BCHW: Tensor, carried: Sequence[Tensor], labels_B: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Before row i is drawn, given the rows above it: what it carries on, its context, and the state of its first pixel."""
        return (), (), ()

    def ended(self, below: tuple[Tensor, ...], state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the next row gets, of what this one carried on and the state after its last pixel."""
        return below

    def draw(self, uniform_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """Numbers in [0, 1) -> values_BCHW, int64."""
        values_BCHW = torch.zeros_like(uniform_BCHW, dtype=torch.int64)
        carried = self.carried(uniform_BCHW)
        loop = self._loop if torch.compiler.is_exporting() else self._walk
        return loop(values_BCHW, uniform_BCHW, carried, labels_B)

    @torch.no_grad()
    def _walk(self, values_BCHW: Tensor, uniform_BCHW: Tensor, carried: tuple[Tensor, ...], labels_B: Tensor | None) -> Tensor:
        for i in counted(range(values_BCHW.shape[2])):
            carried, context, state = self.row(i, values_BCHW, carried, labels_B)
            for j in range(values_BCHW.shape[3]):
                drawn_BC, state = self.pixel((i, j), values_BCHW, uniform_BCHW[:, :, i, j], context, state, labels_B)
                values_BCHW[:, :, i, j] = drawn_BC
            carried = self.ended(carried, state)
        return values_BCHW

    def _loop(self, values_BCHW: Tensor, uniform_BCHW: Tensor, carried: tuple[Tensor, ...], labels_B: Tensor | None) -> Tensor:
        """The same walk as one Loop of the graph, over rows, with another in it, over the pixels of a row."""
        from torch._higher_order_ops.while_loop import while_loop

        _, channels, height, width = values_BCHW.shape
        start = torch.zeros((), dtype=torch.int64)

        def more_rows(i: Tensor, *_: Tensor) -> Tensor:
            return i < height

        def row(i: Tensor, values_BCHW: Tensor, *carried: Tensor) -> tuple[Tensor, ...]:
            below, context, state = self.row(i, values_BCHW, carried, labels_B)
            uniform_BCW = uniform_BCHW.index_select(2, i.view(1)).squeeze(2)

            def more_pixels(j: Tensor, *_: Tensor) -> Tensor:
                return j < width

            def pixel(j: Tensor, flat_BCT: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
                uniform_BC = uniform_BCW.index_select(2, j.view(1)).squeeze(2)
                values_BCHW = flat_BCT.view(-1, channels, height, width)
                drawn_BC, state = self.pixel((i, j), values_BCHW, uniform_BC, context, state, labels_B)
                return j + 1, flat_BCT.index_copy(2, (i * width + j).view(1), drawn_BC[:, :, None]), *_plain(state)

            begin = (torch.zeros_like(i), values_BCHW.flatten(2), *_plain(state))
            _, flat_BCT, *state = while_loop(more_pixels, pixel, begin)
            return i + 1, flat_BCT.view(-1, channels, height, width), *_plain(self.ended(below, tuple(state)))

        looped: Tensor = while_loop(more_rows, row, (start, values_BCHW, *_plain(carried)))[1]
        return looped


def _plain(state: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Laid out row by row, whatever made them: a loop's state must not change its strides."""
    return tuple(value.clone(memory_format=torch.contiguous_format) for value in state)


def inverse_cdf(p_BK: Tensor, uniform_B: Tensor) -> Tensor:
    """The value k with cdf(k - 1) <= u < cdf(k), int64 [B]: k has probability p_k when u is uniform in [0, 1)."""
    cdf_BK = p_BK.float().cumsum(1)
    below_B = (cdf_BK <= uniform_B[:, None] * cdf_BK[:, -1:]).sum(1)
    return below_B.clamp(max=p_BK.shape[1] - 1)  # u times a sum may round up to the sum


def to_data_units(values: Tensor, count: int = 256) -> Tensor:
    """Levels 0 to count - 1 -> floats in [-1, 1]."""
    return values.float() * (2 / (count - 1)) - 1


def to_levels(x: Tensor, count: int = 256) -> Tensor:
    """Floats in [-1, 1] -> the nearest level, int64 in [0, count)."""
    return ((x + 1) * ((count - 1) / 2)).round().clamp(0, count - 1).long()
