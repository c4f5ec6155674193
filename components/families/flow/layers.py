"""The invertible layers of a flow, each with its inverse and the log determinant of its Jacobian.

    log p(x) = log p(f(x)) + log |det df/dx|                          (Dinh et al. 2017, arXiv:1605.08803, eq. 2)

A squeeze halves both sides. A side that is odd is padded to even; the places that the padding adds hold zero before and after
every layer and are counted by no determinant, so that the flow is one over the image's own values whatever its sides. Each
layer is told which places are the image's own: `own_CHW`, 1 there and 0 on padding.

B batch, C channels, H height, W width.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.runtime.processes import mean_over_processes

Network = Callable[[int, int], nn.Module]  # channels in, channels out -> an image network of the same sides, zero at first


class Bijection(nn.Module):
    """An invertible layer."""

    @abstractmethod
    def forward(self, x_BCHW: Tensor, given_BGHW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f(x; given) and log |det df/dx|: one an item, or one for all where it is the same."""

    @abstractmethod
    def inverse(self, y_BCHW: Tensor, given_BGHW: Tensor | None = None) -> Tensor:
        """The x whose image is y."""

    def fit(self, x_BCHW: Tensor) -> Tensor:
        """Start from the data: set what the first batch decides, and return f(x)."""
        out: Tensor = self(x_BCHW)[0]
        return out


class Chain(Bijection):
    """Layers one after the other."""

    def __init__(self, layers: Sequence[Bijection]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def __iter__(self) -> Iterator[Bijection]:
        return iter(cast("Sequence[Bijection]", self.layers))

    def forward(self, x_BCHW: Tensor, given_BGHW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det_B = x_BCHW.new_zeros(len(x_BCHW))
        for layer in self:
            x_BCHW, more_B = layer(x_BCHW, given_BGHW)
            log_det_B = log_det_B + more_B
        return x_BCHW, log_det_B

    def inverse(self, y_BCHW: Tensor, given_BGHW: Tensor | None = None) -> Tensor:
        for layer in reversed([*self]):
            y_BCHW = layer.inverse(y_BCHW, given_BGHW)
        return y_BCHW

    def fit(self, x_BCHW: Tensor) -> Tensor:
        for layer in self:
            x_BCHW = layer.fit(x_BCHW)
        return x_BCHW


class ActNorm(Bijection):
    """y = (x + b) exp(s) for each channel; the first batch comes out with mean 0 and deviation 1 (arXiv:1807.03039, sec. 3.1)."""

    own_CHW: Tensor
    count_C11: Tensor

    def __init__(self, own_CHW: Tensor) -> None:
        super().__init__()
        self.whole = bool(own_CHW.all())
        self.register_buffer("own_CHW", own_CHW, persistent=False)
        self.register_buffer("count_C11", own_CHW.sum((1, 2), keepdim=True), persistent=False)
        self.shift_C11 = nn.Parameter(torch.zeros(len(own_CHW), 1, 1))
        self.log_scale_C11 = nn.Parameter(torch.zeros(len(own_CHW), 1, 1))

    def forward(self, x_BCHW: Tensor, given_BGHW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y_BCHW = (x_BCHW + self.shift_C11) * self.log_scale_C11.exp()
        return y_BCHW if self.whole else y_BCHW * self.own_CHW, (self.log_scale_C11 * self.count_C11).sum()

    def inverse(self, y_BCHW: Tensor, given_BGHW: Tensor | None = None) -> Tensor:
        x_BCHW = y_BCHW * (-self.log_scale_C11).exp() - self.shift_C11
        return x_BCHW if self.whole else x_BCHW * self.own_CHW

    @torch.no_grad()
    def fit(self, x_BCHW: Tensor) -> Tensor:
        count_C = (len(x_BCHW) * self.count_C11.flatten()).clamp(min=1)
        mean_C = mean_over_processes(x_BCHW.sum((0, 2, 3)) / count_C).view(-1, 1, 1)
        centred_BCHW = (x_BCHW - mean_C) * self.own_CHW
        variance_C = mean_over_processes(centred_BCHW.square().sum((0, 2, 3)) / count_C).view(-1, 1, 1)
        self.shift_C11.copy_(-mean_C)
        self.log_scale_C11.copy_(-0.5 * (variance_C + 1e-6).log())
        return super().fit(x_BCHW)


class PlaceNorm(Bijection):
    """y = (x + b) exp(s) for each value of the image by itself, started like `ActNorm`: aligned images differ by place.

    A value that hardly varies in the first batch may do so later: no deviation is taken to be below `FLOOR` of the whole batch's.
    """

    FLOOR = 0.1

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shift_CHW = nn.Parameter(torch.zeros(shape))
        self.log_scale_CHW = nn.Parameter(torch.zeros(shape))

    def forward(self, x_BCHW: Tensor, given_BGHW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x_BCHW + self.shift_CHW) * self.log_scale_CHW.exp(), self.log_scale_CHW.sum()

    def inverse(self, y_BCHW: Tensor, given_BGHW: Tensor | None = None) -> Tensor:
        return y_BCHW * (-self.log_scale_CHW).exp() - self.shift_CHW

    @torch.no_grad()
    def fit(self, x_BCHW: Tensor) -> Tensor:
        mean_CHW = mean_over_processes(x_BCHW.mean(0))
        variance_CHW = mean_over_processes((x_BCHW - mean_CHW).square().mean(0))
        least = self.FLOOR**2 * variance_CHW.mean() + 1e-6
        self.shift_CHW.copy_(-mean_CHW)
        self.log_scale_CHW.copy_(-0.5 * torch.maximum(variance_CHW, least).log())
        return super().fit(x_BCHW)


class InvertibleConv(Bijection):
    """y = W x at each place, W = P L (U + diag(s)): a learned permutation of channels (arXiv:1807.03039, sec. 3.2, eq. 10).

    Started at a random rotation. Places where some channel is padding are left as they are. `dense`: of one place, many at once.
    """

    full_1HW: Tensor
    eye_CC: Tensor
    permutation_CC: Tensor
    sign_C: Tensor
    frozen_CC: Tensor | None

    def __init__(self, own_CHW: Tensor, *, dense: bool = False) -> None:
        super().__init__()
        channels, self.dense = len(own_CHW), dense
        rotation_CC = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation_CC, lower_CC, upper_CC = (part.float() for part in torch.linalg.lu(rotation_CC))
        diagonal_C = upper_CC.diagonal()
        self.whole = bool(own_CHW.all())
        self.places = int(own_CHW.amin(0).sum())
        self.register_buffer("full_1HW", own_CHW.amin(0, keepdim=True), persistent=False)
        self.register_buffer("eye_CC", torch.eye(channels), persistent=False)
        self.register_buffer("permutation_CC", permutation_CC)
        self.register_buffer("sign_C", diagonal_C.sign())
        self.register_buffer("frozen_CC", None, persistent=False)
        self.lower_CC = nn.Parameter(lower_CC.tril(-1))
        self.upper_CC = nn.Parameter(upper_CC.triu(1))
        self.log_s_C = nn.Parameter(diagonal_C.abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L with ones on its diagonal, and U + diag(s)."""
        return self.lower_CC.tril(-1) + self.eye_CC, self.upper_CC.triu(1) + self.eye_CC * (self.sign_C * self.log_s_C.exp())

    def weight(self) -> Tensor:
        """W_CC."""
        lower_CC, upper_CC = self.factors()
        return self.permutation_CC @ lower_CC @ upper_CC

    def inverse_weight(self) -> Tensor:
        """W^-1 by two triangular systems in double precision."""
        lower_CC, upper_CC = (factor.double() for factor in self.factors())
        inner_CC = torch.linalg.solve_triangular(lower_CC, self.permutation_CC.double().T, upper=False, unitriangular=True)
        inverse_CC: Tensor = torch.linalg.solve_triangular(upper_CC, inner_CC, upper=True)
        return inverse_CC.to(self.log_s_C.dtype)

    def freeze(self) -> None:
        """Invert the weight once, for a sampler: a graph has no triangular systems."""
        self.frozen_CC = self.inverse_weight().detach()

    def forward(self, x_BCHW: Tensor, given_BGHW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y_BCHW = _exactly(lambda: self._mix(x_BCHW, self.weight()), x_BCHW)
        return y_BCHW, self.places * self.log_s_C.sum()

    def inverse(self, y_BCHW: Tensor, given_BGHW: Tensor | None = None) -> Tensor:
        weight_CC = self.inverse_weight() if self.frozen_CC is None else self.frozen_CC
        return _exactly(lambda: self._mix(y_BCHW, weight_CC), y_BCHW)

    def _mix(self, x_BCHW: Tensor, weight_CC: Tensor) -> Tensor:
        if self.dense:
            return F.linear(x_BCHW.flatten(1), weight_CC)[:, :, None, None]
        mixed_BCHW: Tensor = torch.matmul(weight_CC, x_BCHW.flatten(2)).unflatten(2, self.full_1HW.shape[1:])
        return mixed_BCHW if self.whole else torch.where(self.full_1HW > 0, mixed_BCHW, x_BCHW)


class Coupling(Bijection):
    """Part of the values moves by an affine map whose scale and shift the other part decides (arXiv:1605.08803, eq. 4, 7 and 9).

    y = (x + t(seen)) exp(s(seen)),   s = bound tanh(raw(seen))
    """

    def __init__(self, network: nn.Module, *, bound: float) -> None:
        super().__init__()
        self.network = network
        self.bound = bound

    def affine(self, seen_BCHW: Tensor, given_BGHW: Tensor | None, moving_CHW: Tensor | None) -> tuple[Tensor, Tensor]:
        """s and t, zero where nothing moves."""
        inputs = seen_BCHW if given_BGHW is None else torch.cat([seen_BCHW, given_BGHW], dim=1)
        raw, t = self.network(inputs).to(seen_BCHW.dtype).chunk(2, dim=1)
        s = self.bound * torch.tanh(raw)
        return (s, t) if moving_CHW is None else (s * moving_CHW, t * moving_CHW)


class CheckerboardCoupling(Coupling):
    """Sees every other place as on a chessboard, and moves the rest; `odd` says which (arXiv:1605.08803, fig. 3).

    An image of a single place has no such board: there its channels take turns.
    """

    seen_CHW: Tensor
    moving_CHW: Tensor

    def __init__(self, own_CHW: Tensor, make: Network, *, odd: bool, bound: float, given: int = 0) -> None:
        channels, height, width = own_CHW.shape
        super().__init__(make(channels + given, 2 * channels), bound=bound)
        places_1HW = (torch.arange(height)[:, None] + torch.arange(width))[None]
        turns = torch.arange(channels).view(-1, 1, 1) if height == width == 1 else places_1HW
        seen_CHW = ((turns + odd) % 2).float().expand(channels, height, width).contiguous()
        self.register_buffer("seen_CHW", seen_CHW, persistent=False)
        self.register_buffer("moving_CHW", (1 - seen_CHW) * own_CHW, persistent=False)

    def forward(self, x_BCHW: Tensor, given_BGHW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = self.affine(x_BCHW * self.seen_CHW, given_BGHW, self.moving_CHW)
        return (x_BCHW + t) * s.exp(), s.sum((1, 2, 3))

    def inverse(self, y_BCHW: Tensor, given_BGHW: Tensor | None = None) -> Tensor:
        s, t = self.affine(y_BCHW * self.seen_CHW, given_BGHW, self.moving_CHW)
        return y_BCHW * (-s).exp() - t


class ChannelCoupling(Coupling):
    """Sees half of the channels and moves the other half: the second, or the first where `odd`."""

    moving_CHW: Tensor | None

    def __init__(self, own_CHW: Tensor, make: Network, *, odd: bool, bound: float) -> None:
        half = len(own_CHW) // 2
        super().__init__(make(half, 2 * half), bound=bound)
        self.odd = odd
        moving_CHW = own_CHW[:half] if odd else own_CHW[half:]
        self.register_buffer("moving_CHW", None if moving_CHW.all() else moving_CHW, persistent=False)

    def forward(self, x_BCHW: Tensor, given_BGHW: Tensor | None = None) -> tuple[Tensor, Tensor]:
        seen, moving = self._halves(x_BCHW)
        s, t = self.affine(seen, given_BGHW, self.moving_CHW)
        return self._whole(seen, (moving + t) * s.exp()), s.sum((1, 2, 3))

    def inverse(self, y_BCHW: Tensor, given_BGHW: Tensor | None = None) -> Tensor:
        seen, moving = self._halves(y_BCHW)
        s, t = self.affine(seen, given_BGHW, self.moving_CHW)
        return self._whole(seen, moving * (-s).exp() - t)

    def _halves(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x_BCHW.chunk(2, dim=1)
        return (second, first) if self.odd else (first, second)

    def _whole(self, seen: Tensor, moving: Tensor) -> Tensor:
        return torch.cat([moving, seen] if self.odd else [seen, moving], dim=1)


def squeeze(x_BCHW: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, 4C, ceil(H/2), ceil(W/2)]: each 2x2 block becomes channels, its diagonals one after the other."""
    x = F.pad(x_BCHW, (0, x_BCHW.shape[3] % 2, 0, x_BCHW.shape[2] % 2))
    return torch.cat([x[:, :, 0::2, 0::2], x[:, :, 1::2, 1::2], x[:, :, 0::2, 1::2], x[:, :, 1::2, 0::2]], dim=1)


def unsqueeze(x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `squeeze`, of an image of this height and width."""
    top_left, bottom_right, top_right, bottom_left = x_BCHW.chunk(4, dim=1)
    top = torch.stack([top_left, top_right], dim=-1).flatten(3)
    bottom = torch.stack([bottom_left, bottom_right], dim=-1).flatten(3)
    whole = torch.stack([top, bottom], dim=3).flatten(2, 3)
    return whole[:, :, : size[0], : size[1]]


def _exactly(compute: Callable[[], Tensor], like: Tensor) -> Tensor:
    """In single precision even where networks run in half: a density must not lose what half drops."""
    if not torch.is_autocast_enabled(like.device.type):
        return compute()
    with torch.autocast(like.device.type, enabled=False):
        return compute()
