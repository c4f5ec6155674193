"""The multi-scale architecture (Dinh et al. 2017, arXiv:1605.08803, sec. 3.6): half of the values leaves after each scale.

    h -> steps, squeeze, steps -> (h', z_l),   eps_l = (z_l - mu(h', class)) / sigma(h', class) ~ N(0, I)

What leaves is judged by a Gaussian of what stays (Glow's code and sec. 3.6 of arXiv:1807.03039) and of the class. Both are
one more affine map, so the latent space is standard normal as a whole and has as many values as the image.

B batch, C channels, H height, W width, D = C H W of the image, N values that leave at one scale.
"""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.errors import BriefError
from components.core.records import DataSpec
from components.families.blocks import halvings
from components.families.dense import one_place
from components.families.flow.layers import Bijection, Chain, PlaceNorm, squeeze, unsqueeze
from components.families.flow.networks import ZeroConv
from components.families.images import image_of

CLASS_RATE = 10.0  # classes must be told apart long before a network is trained: their means move faster by this
SIGMA_BOUND = 5.0  # of |log sigma|

Steps = Callable[[Tensor, bool, bool], Sequence[Bijection]]  # own_CHW, after the squeeze, at the last scale


def scales_most(spec: DataSpec) -> int:
    """How many scales an image has sides for: none is squeezed below two places."""
    return len(halvings(image_of(spec).height, image_of(spec).width, smallest=3))


def scales_default(spec: DataSpec, *, fewer: int) -> int:
    """ceil(log2 side) - fewer, at least two where the sides allow."""
    wanted = math.ceil(math.log2(max(image_of(spec).height, image_of(spec).width, 2))) - fewer
    return min(max(2, wanted), scales_most(spec))


class Prior(nn.Module):
    """eps = (z - mu) / sigma, where mu and log sigma come from what stays, from a learned constant, and from the class."""

    own_CHW: Tensor

    def __init__(self, own_CHW: Tensor, *, kept: int, classes: int, learned: bool) -> None:
        super().__init__()
        self.register_buffer("own_CHW", own_CHW, persistent=False)
        outputs = 2 * len(own_CHW)
        self.from_kept = ZeroConv(kept, outputs) if learned and kept else None
        self.constant_C11 = nn.Parameter(torch.zeros(outputs, 1, 1)) if learned and not kept else None
        self.by_class_KC = nn.Parameter(torch.zeros(classes, outputs)) if classes else None

    def forward(self, z_BCHW: Tensor, kept_BCHW: Tensor | None, labels_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """eps_BCHW and the log determinant, one an item."""
        mu, log_sigma = self._moments(z_BCHW, kept_BCHW, labels_B)
        log_det_B = -(log_sigma * self.own_CHW).sum((1, 2, 3))
        return (z_BCHW - mu) * (-log_sigma).exp() * self.own_CHW, log_det_B

    def inverse(self, eps_BCHW: Tensor, kept_BCHW: Tensor | None, labels_B: Tensor | None) -> Tensor:
        mu, log_sigma = self._moments(eps_BCHW, kept_BCHW, labels_B)
        return (eps_BCHW * log_sigma.exp() + mu) * self.own_CHW

    def _moments(self, like_BCHW: Tensor, kept_BCHW: Tensor | None, labels_B: Tensor | None) -> tuple[Tensor, Tensor]:
        raw = like_BCHW.new_zeros(1, 2 * len(self.own_CHW), 1, 1)
        if self.constant_C11 is not None:
            raw = raw + self.constant_C11
        if self.from_kept is not None:
            raw = raw + self.from_kept(kept_BCHW).to(like_BCHW.dtype)
        if self.by_class_KC is not None:
            assert labels_B is not None
            raw = raw + CLASS_RATE * self.by_class_KC[labels_B][:, :, None, None]
        mu, log_sigma = raw.chunk(2, dim=1)
        return mu, SIGMA_BOUND * torch.tanh(log_sigma / SIGMA_BOUND)


class Scale(nn.Module):
    """One scale: steps, perhaps a squeeze and more steps, then half of the values leaves, or all of them at the last."""

    places_N: Tensor
    origin_P: Tensor

    def __init__(self, before: Sequence[Bijection], after: Sequence[Bijection], prior: Prior, *, size: tuple[int, int]) -> None:
        super().__init__()
        self.before = Chain(before)
        self.after = Chain(after) if after else None
        self.prior = prior
        self.size = size
        own_P = prior.own_CHW.flatten() > 0
        places_N = own_P.nonzero().squeeze(1)
        self.count = len(places_N)
        self.whole = bool(own_P.all())
        # Where each value of z comes from; padding comes from a zero that stands behind the N own values.
        origin_P = torch.full((len(own_P),), self.count).index_copy(0, places_N, torch.arange(self.count))
        self.register_buffer("places_N", places_N, persistent=False)
        self.register_buffer("origin_P", origin_P, persistent=False)

    def forward(self, h_BCHW: Tensor, labels_B: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor]:
        """What stays (None at the last scale), eps_BN, and the log determinant, one an item."""
        h_BCHW, log_det_B = self.before(h_BCHW)
        if self.after is not None:
            h_BCHW, more_B = self.after(squeeze(h_BCHW))
            log_det_B = log_det_B + more_B
        kept, z_BCHW = self._split(h_BCHW)
        eps_BCHW, more_B = self.prior(z_BCHW, kept, labels_B)
        eps_BP = eps_BCHW.flatten(1)
        return kept, eps_BP if self.whole else eps_BP[:, self.places_N], log_det_B + more_B

    def inverse(self, kept_BCHW: Tensor | None, eps_BN: Tensor, labels_B: Tensor | None) -> Tensor:
        """h_BCHW from what stayed and what left."""
        eps_BP = eps_BN if self.whole else F.pad(eps_BN, (0, 1))[:, self.origin_P]
        z_BCHW = self.prior.inverse(eps_BP.unflatten(1, self.prior.own_CHW.shape), kept_BCHW, labels_B)
        h_BCHW = z_BCHW if kept_BCHW is None else torch.cat([kept_BCHW, z_BCHW], dim=1)
        if self.after is not None:
            h_BCHW = unsqueeze(self.after.inverse(h_BCHW), self.size)
        return self.before.inverse(h_BCHW)

    def fit(self, h_BCHW: Tensor) -> Tensor | None:
        """Start the steps from the data; what stays."""
        h_BCHW = self.before.fit(h_BCHW)
        if self.after is not None:
            h_BCHW = self.after.fit(squeeze(h_BCHW))
        return self._split(h_BCHW)[0]

    def _split(self, h_BCHW: Tensor) -> tuple[Tensor | None, Tensor]:
        leaving = len(self.prior.own_CHW)
        if h_BCHW.shape[1] == leaving:
            return None, h_BCHW
        return h_BCHW[:, :-leaving], h_BCHW[:, -leaving:]


class MultiScale(nn.Module):
    """An image <-> its standard normal latent values, of the same number.

    `steps` gives the layers of a place in the architecture. Where it gives none for after the squeeze, there is no squeeze.
    `dense`: all values are channels of one place.
    """

    def __init__(self, spec: DataSpec, steps: Steps, *, scales: int, learned: bool, by_place: bool, dense: bool = False) -> None:
        super().__init__()
        self.shape, self.dense = spec.shape, dense
        spec = one_place(spec) if dense else spec
        if scales > (most := scales_most(spec)):
            sides = f"{image_of(spec).height}x{image_of(spec).width}"
            raise BriefError(f"override.config.scales: {scales} is too many for {sides} pixels", allowed=f"1 to {most}")
        classes = len(spec.classes) if spec.conditional else 0
        own_CHW = torch.ones(spec.shape)
        built = []
        for number in range(scales):
            last = number == scales - 1
            size = (own_CHW.shape[1], own_CHW.shape[2])
            before = [*([PlaceNorm(spec.shape)] if by_place and not number else []), *steps(own_CHW, False, last)]
            squeezed_CHW = squeeze(own_CHW[None])[0]
            after = steps(squeezed_CHW, True, last)
            own_CHW = squeezed_CHW if after else own_CHW
            kept = 0 if last else len(own_CHW) // 2
            prior = Prior(own_CHW[kept:], kept=kept, classes=classes, learned=learned)
            built.append(Scale(before, after, prior, size=size))
            own_CHW = own_CHW[:kept]
        self._scales = nn.ModuleList(built)
        self.counts = [scale.count for scale in built]
        assert sum(self.counts) == math.prod(spec.shape)

    @property
    def scales(self) -> Sequence[Scale]:
        return cast("Sequence[Scale]", self._scales)

    def forward(self, y_BCHW: Tensor, labels_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """eps_BD and the log determinant, one an item."""
        h_BCHW: Tensor | None = self._placed(y_BCHW)
        eps, log_det_B = [], y_BCHW.new_zeros(len(y_BCHW))
        for scale in self.scales:
            assert h_BCHW is not None
            h_BCHW, eps_BN, more_B = scale(h_BCHW, labels_B)
            eps.append(eps_BN)
            log_det_B = log_det_B + more_B
        return torch.cat(eps, dim=1), log_det_B

    def inverse(self, eps_BD: Tensor, labels_B: Tensor | None) -> Tensor:
        """The image y_BCHW."""
        h_BCHW: Tensor | None = None
        for scale, eps_BN in zip(reversed(self.scales), reversed(eps_BD.split(self.counts, dim=1)), strict=True):
            h_BCHW = scale.inverse(h_BCHW, eps_BN, labels_B)
        assert h_BCHW is not None
        return h_BCHW.reshape(-1, *self.shape) if self.dense else h_BCHW

    @torch.no_grad()
    def fit(self, y_BCHW: Tensor) -> None:
        """Start every step from the data (arXiv:1807.03039, sec. 3.1)."""
        h_BCHW: Tensor | None = self._placed(y_BCHW)
        for scale in self.scales:
            assert h_BCHW is not None
            h_BCHW = scale.fit(h_BCHW)

    def _placed(self, y_BCHW: Tensor) -> Tensor:
        return y_BCHW.reshape(len(y_BCHW), -1, 1, 1) if self.dense else y_BCHW
