"""What all flows share: an exact density of real-valued images, and through dequantisation the mass of 8-bit ones.

    y = (k + u) / 256 in [0, 1),   v = logit(alpha + (1 - 2 alpha) y)             (Dinh et al. 2017, arXiv:1605.08803, sec. 4.1)
    log p(y) = log N(f(v); 0, I) + log |det df/dv| + log |det dv/dy|

Exact: log p(y) (`log_density`) and the inverse. The mass P(k) that `log_prob` gives is the integral of p over the values that
round to k: estimated with importance weights over few draws of u, it is in expectation a lower bound of log P(k) (Burda et al.
2016, arXiv:1509.00519), as published bits/dim of flows are. Without alpha v = y - 1/2: better where few values are extreme.

Three things are not in the papers: each place is shifted and scaled by itself before the first scale (`normalise_places`), the
log scales of couplings are bounded (`bound`), and actnorm stands in both variants.

B batch, C channels, H height, W width, D = C H W.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.dense import DenseConfig, if_few
from components.families.flow.dequantisation import Uniform, Variational
from components.families.flow.layers import Bijection, InvertibleConv
from components.families.flow.multiscale import MultiScale
from components.families.images import side_of

DEVIATION_OF_UNIFORM = 1 / math.sqrt(3)  # in [-1, 1]; data of a larger one crowd at the extremes
ALPHA = 0.05  # arXiv:1605.08803


class FlowConfig(DenseConfig):
    lr_peak: float = 3e-3
    batch_size: int = 64
    ema_decay: float = 0.998
    width: int = Field(default=64, ge=8, description="channels of the networks in the couplings; 32 up to side 16 and on a CPU")
    scales: int = Field(default=2, ge=1, description="half of the values leaves after each; by default as the sides ask")
    alpha: float | None = Field(
        default=None, gt=0, lt=0.5, description="of the logit transform, null for none; by default as the spread of the data asks"
    )
    dequantisation: Literal["uniform", "variational"] = "uniform"
    dequantisation_depth: int = Field(default=2, ge=1, description="pairs of couplings of the variational dequantisation")
    normalise_places: bool = Field(default=True, description="shift and scale each value by itself first; not in the papers")
    bound: float = Field(default=2.0, gt=0, description="of the log scale of one coupling")
    temperature: float = Field(default=1.0, gt=0, description="standard deviation that samples are drawn with")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """The logit transform where values crowd at the extremes, as those of digits do; small images, narrow networks."""
        narrow = {"width": 32} if light or side_of(spec) <= 16 else {}
        return {"alpha": ALPHA if spec.std > DEVIATION_OF_UNIFORM else None} | narrow | if_few(spec, scales=1, width=64)


class Sampler(nn.Module):
    """z_BD (and class_B) -> x_BCHW: the inverse flow, its 1x1 convolutions inverted once. A snapshot of the weights."""

    def __init__(self, family: "Flow") -> None:
        super().__init__()
        self.flow = copy.deepcopy(family.flow)
        for layer in self.flow.modules():
            if isinstance(layer, InvertibleConv):
                layer.freeze()
        self.alpha = family.config.alpha
        self.temperature = family.config.temperature

    def forward(self, z_BD: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return to_image(self.flow.inverse(self.temperature * z_BD, condition_B), self.alpha)


class Flow(Family):
    """A flow; a variant says which layers stand where in the multi-scale architecture."""

    config: FlowConfig
    fitted: Tensor
    learned_prior: bool

    def __init__(self, config: FlowConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.flow = MultiScale(
            spec,
            self.steps,
            scales=config.scales,
            learned=self.learned_prior,
            by_place=config.normalise_places,
            dense=config.dense,
        )
        self.dequantise: nn.Module = Uniform()
        if config.dequantisation == "variational":
            depth, bound = config.dequantisation_depth, config.bound
            self.dequantise = Variational(spec, width=max(8, config.width // 2), depth=depth, bound=bound)
        self.register_buffer("fitted", torch.tensor(False))
        self._known_fitted = False

    def compilable(self) -> list[nn.Module]:
        """The flow; the dequantisation draws random numbers."""
        return [self.flow]

    @abstractmethod
    def steps(self, own_CHW: Tensor, squeezed: bool, last: bool) -> Sequence[Bijection]:
        """The layers of one scale before or after its squeeze; none after it: no squeeze."""

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the negative bound of log P in nats a value}. The first batch of a training decides where it starts."""
        if self.training and not self._is_fitted():
            self._fit(batch.x, rng)
        bound_B = self._bound(batch.x, self._labels(batch.condition), rng)
        return {"model": -bound_B.mean() / math.prod(self.spec.shape)}

    def survey(self, parts: Sequence[Batch], rng: torch.Generator) -> Sequence[Tensor | None]:
        """Nothing, but the first batch of a training decides, as a whole, where it starts."""
        if not self._is_fitted():
            self._fit(torch.cat([part.x for part in parts]), rng)
        return super().survey(parts, rng)

    def log_prob(
        self, x_BCHW: Tensor, labels_B: Tensor | None = None, *, rng: torch.Generator | None = None, draws: int = 8
    ) -> Tensor:
        """log P(x) in nats of 8-bit images, through `draws` draws of the dequantisation's noise; the same at every call."""
        rng = rng or torch.Generator(x_BCHW.device).manual_seed(0)
        bounds = [self._bound(x_BCHW, self._labels(labels_B), rng) for _ in range(draws)]
        return torch.logsumexp(torch.stack(bounds), 0) - math.log(draws)

    def log_density(self, y_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """log p(y)_B, exact, of real values in [0, 1]."""
        v_BCHW, log_slope_B = spread(y_BCHW, self.config.alpha)
        z_BD, log_det_B = self.flow(v_BCHW, self._labels(labels_B))
        log_normal_B = (-0.5 * z_BD**2 - 0.5 * math.log(2 * math.pi)).sum(1)
        out: Tensor = log_normal_B + log_det_B + log_slope_B
        return out

    def encode(self, x_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The latent z_BD of an image, each value in the middle of its bin; N(0, I) over the data."""
        v_BCHW, _ = spread((x_BCHW * 127.5 + 128) / 256, self.config.alpha)
        z_BD: Tensor = self.flow(v_BCHW, self._labels(labels_B))[0]
        return z_BD

    def decode(self, z_BD: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """The image x_BCHW in [-1, 1] of a latent."""
        return to_image(self.flow.inverse(z_BD, self._labels(labels_B)), self.config.alpha)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=(math.prod(self.spec.shape),)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one pass
        return Sampler(self)

    def _bound(self, x_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> Tensor:
        """log p(y) - log q(u|x) - D log 256 for one draw of u, one an item."""
        y_BCHW, log_q_B = self._dequantised(x_BCHW, rng)
        return self.log_density(y_BCHW, labels_B) - log_q_B - math.prod(self.spec.shape) * math.log(256)

    def _dequantised(self, x_BCHW: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """y_BCHW in [0, 1] and log q(u|x)_B."""
        u_BCHW, log_q_B = self.dequantise(x_BCHW, rng)
        return (((x_BCHW + 1) * 127.5).round() + u_BCHW) / 256, log_q_B

    def _labels(self, labels_B: Tensor | None) -> Tensor | None:
        return labels_B if self.spec.conditional else None

    def _is_fitted(self) -> bool:
        """Asks the device once; a state that was saved in training says yes."""
        self._known_fitted = self._known_fitted or bool(self.fitted)
        return self._known_fitted

    @torch.no_grad()
    def _fit(self, x_BCHW: Tensor, rng: torch.Generator) -> None:
        self.flow.fit(spread(self._dequantised(x_BCHW, rng)[0], self.config.alpha)[0])
        self.fitted.fill_(True)


def spread(y_BCHW: Tensor, alpha: float | None) -> tuple[Tensor, Tensor]:
    """v and the log of |det dv/dy|, one an item."""
    if alpha is None:
        return y_BCHW - 0.5, y_BCHW.new_zeros(len(y_BCHW))
    a_BCHW = alpha + (1 - 2 * alpha) * y_BCHW
    log_slope = math.log(1 - 2 * alpha) - a_BCHW.log() - (-a_BCHW).log1p()
    return torch.logit(a_BCHW), log_slope.flatten(1).sum(1)


def to_image(v_BCHW: Tensor, alpha: float | None) -> Tensor:
    """v -> y -> data units: the bin of an 8-bit value has that value in its middle."""
    y_BCHW = v_BCHW + 0.5 if alpha is None else (torch.sigmoid(v_BCHW) - alpha) / (1 - 2 * alpha)
    return ((256 * y_BCHW - 128) / 127.5).clamp(-1, 1)
