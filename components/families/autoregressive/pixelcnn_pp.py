"""PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517): whole pixels at once, by mixtures of discretised logistics.

A pixel's numbers come from the two streams of `streams.py`; its channels are coupled by `logistics.py`.

B batch, C channels, H height, W width, F features, M components.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.card import Card
from components.core.records import DataSpec
from components.families.autoregressive.family import PixelConfig, PixelFamily, pixel_grid
from components.families.autoregressive.grid import Grid, GridModel, Index, inverse_cdf, to_data_units
from components.families.autoregressive.logistics import Mixture, outputs, uniform_bias
from components.families.autoregressive.streams import PointWalk, RowWalk, Streams
from components.families.dense import BATCH, few_values
from components.families.images import image_of, side_of


class PixelCNNppConfig(PixelConfig):
    lr_peak: float = 2e-3
    batch_size: int = 64
    width: int = Field(default=32, ge=8, description="features of each stream; 16 up to side 16 and on a CPU; 160 in the paper")
    blocks: int = Field(default=2, ge=1, description="gated residual blocks at each resolution, on the way down and up; 5 there")
    depth: int = Field(default=2, ge=1, le=4, description="resolutions; 3 in the paper, at side 32; 1 below side 12")
    components: int = Field(default=10, ge=1, description="logistics in a mixture (M); 5 in the paper")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """The coarsest resolution has some 8 pixels a side, as in the paper. Small images, a narrow network."""
        side, least = side_of(spec), min(image_of(spec).height, image_of(spec).width)
        narrow = {"width": 16, "blocks": 1} if light or side <= 16 else {}
        depth = 3 if least >= 24 else 2 if least >= 12 else 1
        # What nothing precedes is one mixture, the same for all: it has to be a rich one.
        return narrow | {"depth": depth} | ({"batch_size": BATCH, "components": 64} if few_values(spec) else {})


class LogisticPixelCNN(GridModel):
    """Mixtures of discretised logistics from the two streams."""

    def __init__(self, grid: Grid, config: PixelCNNppConfig) -> None:
        super().__init__(grid)
        self.components = config.components
        self.streams = Streams(
            grid.channels + 1,
            width=config.width,
            blocks=config.blocks,
            depth=config.depth,
            classes=grid.classes,
            dropout=config.dropout,
        )
        self.counts = len(self.streams.shifted("ul")), len(self.streams.pairs()), config.depth - 1
        side = 2 ** (config.depth - 1)
        self.pad = (0, -grid.width % side, 0, -grid.height % side)  # below and to the right it is future
        self.head = nn.Conv2d(config.width, outputs(grid.channels, config.components), 1)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(uniform_bias(grid.channels, config.components))
        self.register_buffer("last_2", torch.tensor([-2, -1]), persistent=False)

    last_2: Tensor

    def log_prob(self, values_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        features_BFHW = self.streams(F.pad(self._planes(values_BCHW), self.pad), labels_B)
        mixture = self._mixture(features_BFHW[:, :, : self.grid.height, : self.grid.width])
        log_BHWC = mixture.log_prob(values_BCHW.permute(0, 2, 3, 1), count=self.grid.values)
        return log_BHWC.permute(0, 3, 1, 2)

    def carried(self, uniform_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Zeros, as in the padding: what each convolution of u and ul read in the row above, the u of pairs, coarser levels."""
        width = self.grid.width + self.pad[1]

        def row(planes: int, level: int, *height: int) -> Tensor:
            return uniform_BCHW.new_zeros(uniform_BCHW.shape[0], planes, *height, width // 2**level)

        features, coarser = self.streams.width, range(1, self.streams.depth)
        above = [row(layer.planes, layer.level, 1) for layer in self.streams.shifted("u")]
        pairs = [row(features, pair.level, 1) for pair in self.streams.pairs()]
        coarse = [row(features, level, 1) for level in coarser]
        rows = [row(layer.planes, layer.level) for layer in self.streams.shifted("ul")]
        return (*above, *pairs, *coarse, *rows, *(row(features, level) for level in coarser))

    def row(
        self, i: Index, values_BCHW: Tensor, carried: Sequence[Tensor], labels_B: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """One row of u, and what the row above gives to every convolution of ul."""
        n, pairs, coarser = self.counts
        above, kept, coarse, rows, last = (list(part) for part in _split(carried, n, pairs, coarser, n, coarser))
        planes_BP2W = F.pad(self._rows(values_BCHW, self.last_2 + i), (1, 1 + self.pad[1]))
        self.streams.pass_u(self.streams.start_u(planes_BP2W), labels_B, RowWalk(i, above, kept, coarse))
        tops = [layer.top(row_BPU) for layer, row_BPU in zip(self.streams.shifted("ul"), rows, strict=True)]
        start_BFW = self.streams.start_above(planes_BP2W[:, :, 1:])[:, :, 0]
        lefts = [torch.zeros_like(row_BPU[:, :, :1]) for row_BPU in rows]
        return (*above, *kept, *coarse), (*kept, *tops, start_BFW), (*lefts, *rows, *last)

    def ended(self, below: tuple[Tensor, ...], state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The row that ended is above the next: all but what was to the left."""
        return (*below, *state[self.counts[0] :])

    def pixel(
        self,
        at: tuple[Index, Index],
        values_BCHW: Tensor,
        uniform_BC: Tensor,
        context: Sequence[Tensor],
        state: Sequence[Tensor],
        labels_B: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One pixel of ul, then its channels one after another."""
        n, pairs, coarser = self.counts
        kept, tops, (start_BFW,) = (list(part) for part in _split(context, pairs, n, 1))
        lefts, rows, coarse = (list(part) for part in _split(state, n, n, coarser))
        i, j = at
        left = self._rows(values_BCHW.index_select(3, (self.last_2[1:] + j).clamp(min=0)), self.last_2 + 1 + i)
        inside = (self.last_2[1:] + j >= 0).to(left.dtype)
        start = self.streams.start_left(left * inside) + start_BFW.index_select(2, self.last_2[1:] + 1 + j)[..., None]
        ul = self.streams.pass_ul(start, labels_B, PointWalk(at, kept, tops, lefts, rows, coarse))
        mixture = self._mixture(F.elu(ul))
        drawn = torch.zeros_like(uniform_BC, dtype=torch.int64)
        for channel in range(self.grid.channels):
            masses_BK = mixture.masses(drawn[:, None, None], channel, count=self.grid.values)[:, 0, 0]
            value_B = inverse_cdf(masses_BK, uniform_BC[:, channel])
            drawn = torch.cat([drawn[:, :channel], value_B[:, None], drawn[:, channel + 1 :]], dim=1)
        return drawn, (*lefts, *rows, *coarse)

    def _planes(self, values_BCHW: Tensor) -> Tensor:
        """The levels, and ones: they tell the inside from the zeros around it."""
        x_BCHW = to_data_units(values_BCHW, self.grid.values)
        return torch.cat([x_BCHW, torch.ones_like(x_BCHW[:, :1])], dim=1)

    def _rows(self, values_BCHW: Tensor, rows_N: Tensor) -> Tensor:
        """The planes of some rows; those above the first are zeros, as in the padding."""
        planes_BPNW = self._planes(values_BCHW.index_select(2, rows_N.clamp(min=0)))
        return planes_BPNW * (rows_N >= 0).to(planes_BPNW.dtype).view(1, 1, -1, 1)

    def _mixture(self, features_BFHW: Tensor) -> Mixture:
        numbers_BHWN = self.head(features_BFHW).permute(0, 2, 3, 1)
        return Mixture.of(numbers_BHWN, channels=self.grid.channels, components=self.components)


class PixelCNNpp(PixelFamily):
    """Sharper likelihoods on colour images than a softmax, from fewer parameters; one evaluation of the whole network a pixel."""

    card = Card(
        family="autoregressive",
        variant="pixelcnn-pp",
        title="PixelCNN++ with mixtures of discretised logistics",
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
        references=("arXiv:1701.05517",),
    )
    Config = PixelCNNppConfig
    config: PixelCNNppConfig

    def __init__(self, config: PixelCNNppConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.model = LogisticPixelCNN(pixel_grid(spec), config)

    def recomputable(self) -> tuple[nn.Module, ...]:
        """The blocks of both streams: a pair of them is never called as one."""
        streams: Streams = self.model.streams  # type: ignore[assignment] # torch knows a child as a module
        return tuple(block for pair in streams.pairs() for block in (pair.u, pair.ul))


def _split(tensors: Sequence[Tensor], *counts: int) -> list[Sequence[Tensor]]:
    ends = list(itertools.accumulate(counts))
    return [tensors[end - count : end] for end, count in zip(ends, counts, strict=True)]
