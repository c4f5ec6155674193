"""PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517): whole pixels at once, by mixtures of discretised logistics.

Two streams of convolutions that see no future pixel: u the rows above (two rows by three columns), and ul also what is to the
left (two by two), which takes u in at each block. Blocks are gated residuals of concatenated ELUs (section 2.3 and 2.5); the
side is halved `depth` - 1 times and comes back, with a short-cut from each block down to its mirror up (section 2.4, figure 2).
Here a side comes back by repeating pixels before a shifted convolution, and weights are not normalised.

B batch, C channels, H height, W width, F features, M components.
"""

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


class PixelCNNppConfig(PixelConfig):
    lr_peak: float = 2e-3
    batch_size: int = 64
    width: int = Field(default=32, ge=8, description="features of each stream; 160 in the paper")
    blocks: int = Field(default=2, ge=1, description="gated residual blocks at each resolution, on the way down and up; 5 there")
    depth: int = Field(default=2, ge=1, le=4, description="resolutions; 3 in the paper, at side 32")
    components: int = Field(default=10, ge=1, description="logistics in a mixture (M); 5 in the paper")

    @classmethod
    def defaults(cls, spec: DataSpec) -> dict[str, Any]:
        """Three resolutions from side 24 on."""
        return {"depth": 3 if min(spec.height, spec.width) >= 24 else 2}


class Shifted(nn.Module):
    """A convolution that sees two rows, the present and that above, and of the present one no future pixel.

    down: three columns around the present one, for a stream that already sees the rows above alone. Else two: left and present.
    """

    def __init__(self, planes: int, features: int, *, down: bool, stride: int = 1) -> None:
        super().__init__()
        self.padding = (1, 1, 1, 0) if down else (1, 0, 1, 0)
        self.convolution = nn.Conv2d(planes, features, (2, 3 if down else 2), stride=stride)

    def forward(self, x_BPHW: Tensor) -> Tensor:
        x_BFHW: Tensor = self.convolution(F.pad(x_BPHW, self.padding))
        return x_BFHW


class Block(nn.Module):
    """x + a sigmoid(b) with a, b from x, from another stream (or a short-cut) and from the class, after concatenated ELUs."""

    def __init__(self, features: int, *, down: bool, others: int = 0, classes: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = Shifted(2 * features, features, down=down)
        self.other = nn.Conv2d(2 * others * features, features, 1) if others else None
        self.classes = nn.Embedding(classes, 2 * features) if classes else None
        self.dropout = nn.Dropout(dropout)
        self.second = Shifted(2 * features, 2 * features, down=down)
        with torch.no_grad():
            self.second.convolution.weight.mul_(0.3)  # near the identity at first

    def forward(self, x_BFHW: Tensor, other_BGHW: Tensor | None, labels_B: Tensor | None) -> Tensor:
        inner = self.first(_concat_elu(x_BFHW))
        if self.other is not None:
            assert other_BGHW is not None
            inner = inner + self.other(_concat_elu(other_BGHW))
        both = self.second(self.dropout(_concat_elu(inner)))
        if self.classes is not None:
            both = both + self.classes(labels_B)[:, :, None, None]
        a, b = both.chunk(2, dim=1)
        return x_BFHW + a * torch.sigmoid(b)


class Pair(nn.Module):
    """A block of each stream: u -> u, then ul with the new u. On the way up both take the short-cut of their mirror in."""

    def __init__(self, features: int, *, up: bool, classes: int, dropout: float) -> None:
        super().__init__()
        self.u = Block(features, down=True, others=int(up), classes=classes, dropout=dropout)
        self.ul = Block(features, down=False, others=1 + int(up), classes=classes, dropout=dropout)

    def forward(
        self, u: Tensor, ul: Tensor, mirror: tuple[Tensor, Tensor] | None, labels_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u = self.u(u, mirror and mirror[0], labels_B)
        return u, self.ul(ul, u if mirror is None else torch.cat([u, mirror[1]], dim=1), labels_B)


class Streams(nn.Module):
    """planes_BPHW -> features_BFHW of which each pixel sees only the pixels before it."""

    def __init__(self, planes: int, config: PixelCNNppConfig, *, classes: int) -> None:
        super().__init__()
        width, self.depth = config.width, config.depth
        self.above = nn.Conv2d(planes, width, (2, 3))
        self.above_wide = nn.Conv2d(planes, width, (1, 3))
        self.left = nn.Conv2d(planes, width, (2, 1))
        make = {"classes": classes, "dropout": config.dropout}
        self.down = nn.ModuleList(
            nn.ModuleList(Pair(width, up=False, **make) for _ in range(config.blocks)) for _ in range(config.depth)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(Pair(width, up=True, **make) for _ in range(config.blocks)) for _ in range(config.depth)
        )
        steps = range(config.depth - 1)
        self.halve_u = nn.ModuleList(Shifted(width, width, down=True, stride=2) for _ in steps)
        self.halve_ul = nn.ModuleList(Shifted(width, width, down=False, stride=2) for _ in steps)
        self.double_u = nn.ModuleList(Shifted(width, width, down=True) for _ in steps)
        self.double_ul = nn.ModuleList(Shifted(width, width, down=False) for _ in steps)

    def forward(self, x_BPHW: Tensor, labels_B: Tensor | None) -> Tensor:
        u, ul = self._start(x_BPHW)
        mirrors = []
        for level, pairs in enumerate(self.down):
            if level:
                u, ul = self.halve_u[level - 1](u), self.halve_ul[level - 1](ul)
            for pair in pairs:
                u, ul = pair(u, ul, None, labels_B)
                mirrors.append((u, ul))
        for level in reversed(range(self.depth)):
            for pair in self.up[level]:
                u, ul = pair(u, ul, mirrors.pop(), labels_B)
            if level:
                u, ul = self.double_u[level - 1](_twice(u)), self.double_ul[level - 1](_twice(ul))
        return F.elu(ul)

    def _start(self, x_BPHW: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams shifted so that the present pixel is not seen: u the rows above; ul them and the column to the left."""
        u = self.above(F.pad(x_BPHW, (1, 1, 2, 0))[:, :, :-1])
        ul = self.above_wide(F.pad(x_BPHW, (1, 1, 1, 0))[:, :, :-1]) + self.left(F.pad(x_BPHW, (1, 0, 1, 0))[:, :, :, :-1])
        return u, ul


class LogisticPixelCNN(GridModel):
    """Mixtures of discretised logistics from the two streams."""

    def __init__(self, grid: Grid, config: PixelCNNppConfig) -> None:
        super().__init__(grid)
        self.components = config.components
        self.side = 2 ** (config.depth - 1)
        self.streams = Streams(grid.channels + 1, config, classes=grid.classes)
        self.head = nn.Conv2d(config.width, outputs(grid.channels, config.components), 1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(uniform_bias(grid.channels, config.components))

    def log_prob(self, values_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        mixture = self._mixture(self._features(values_BCHW, labels_B))
        log_BHWC = mixture.log_prob(values_BCHW.permute(0, 2, 3, 1), count=self.grid.values)
        return log_BHWC.permute(0, 3, 1, 2)

    def pixel(
        self,
        at: tuple[Index, Index],
        values_BCHW: Tensor,
        uniform_BC: Tensor,
        context: Sequence[Tensor],
        state: Sequence[Tensor],
        labels_B: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The whole network for every pixel (in torch, of the rows so far), then its channels one after another."""
        i, j = at
        if isinstance(i, int):
            features_BF = self._features(values_BCHW[:, :, : i + 1], labels_B)[:, :, i, j]
        else:
            row_BFW = self._features(values_BCHW, labels_B).index_select(2, i.view(1)).squeeze(2)
            features_BF = row_BFW.index_select(2, j.view(1)).squeeze(2)
        mixture = self._mixture(features_BF[:, :, None, None])
        drawn = torch.zeros_like(uniform_BC, dtype=torch.int64)
        for channel in range(self.grid.channels):
            masses_BK = mixture.masses(drawn[:, None, None], channel, count=self.grid.values)[:, 0, 0]
            value_B = inverse_cdf(masses_BK, uniform_BC[:, channel])
            drawn = torch.cat([drawn[:, :channel], value_B[:, None], drawn[:, channel + 1 :]], dim=1)
        return drawn, ()

    def _features(self, values_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """Of the planes and one of ones, padded below and to the right, where it is future, to sides that halve evenly."""
        height, width = values_BCHW.shape[2:]
        x_BCHW = to_data_units(values_BCHW, self.grid.values)
        planes = torch.cat([x_BCHW, torch.ones_like(x_BCHW[:, :1])], dim=1)
        padded = F.pad(planes, (0, -width % self.side, 0, -height % self.side))
        features_BFHW: Tensor = self.streams(padded, labels_B)
        return features_BFHW[:, :, :height, :width]

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
        references=("arXiv:1701.05517",),
    )
    Config = PixelCNNppConfig
    config: PixelCNNppConfig

    def __init__(self, config: PixelCNNppConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.model = LogisticPixelCNN(pixel_grid(spec), config)


def _concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], dim=1))


def _twice(x_BFHW: Tensor) -> Tensor:
    """Each pixel as a square of four."""
    return F.interpolate(x_BFHW, scale_factor=2.0, mode="nearest")
