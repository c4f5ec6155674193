"""Mixtures of discretised logistics over the channels of a pixel (Salimans et al. 2017, arXiv:1701.05517, section 2.1 and 2.2).

    P(x | m, s) = sigmoid((x + d - m) / s) - sigmoid((x - d - m) / s),   d half a level; the end levels reach to infinity  (eq. 2)
    P(x_1..x_C) = sum_m pi_m prod_c P(x_c | m_mc + sum_{b<c} a_mcb x_b, s_mc)                                              (eq. 3)

so given the channels before it, a channel is a mixture whose weights are those of the components after seeing these channels.

B batch, C channels, M components, K levels; N any shape of pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from components.families.autoregressive.grid import to_data_units


def outputs(channels: int, components: int) -> int:
    """Numbers a pixel needs: for each component a weight, and a mean, a scale and the couplings of each channel."""
    return components * (1 + 2 * channels + channels * (channels - 1) // 2)


@dataclass(frozen=True)
class Mixture:
    """One mixture a pixel: weights [N, M], means and log_scales [N, M, C], couplings [N, M, C(C-1)/2] by rows (c, b<c)."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor
    couplings: Tensor

    @classmethod
    def of(cls, numbers: Tensor, *, channels: int, components: int) -> "Mixture":
        """From the outputs of a network, the last dimension: [N, outputs(C, M)]."""
        each = numbers.float().unflatten(-1, (components, -1))
        weights, means, scales, couplings = each.split([1, channels, channels, channels * (channels - 1) // 2], dim=-1)
        return cls(weights.squeeze(-1).log_softmax(-1), means, scales.clamp(min=-7), torch.tanh(couplings))

    def log_prob(self, levels: Tensor, *, count: int = 256) -> Tensor:
        """log of each channel's mass given the channels before it: [N, C] for levels [N, C]."""
        x = to_data_units(levels, count)
        joint, before = self.log_weights, torch.zeros_like(self.log_weights[..., 0])
        terms = []
        for channel in range(levels.shape[-1]):
            value = x[..., channel, None]
            joint = joint + log_mass(value, self._mean(channel, x), self.log_scales[..., channel], count=count)
            after = torch.logsumexp(joint, -1)
            terms.append(after - before)
            before = after
        return torch.stack(terms, -1)

    def masses(self, levels: Tensor, channel: int, *, count: int = 256) -> Tensor:
        """The probability of each level of one channel given the channels before it, of levels [N, C]: [N, K]."""
        x = to_data_units(levels, count)
        joint = self.log_weights
        for before in range(channel):
            value = x[..., before, None]
            joint = joint + log_mass(value, self._mean(before, x), self.log_scales[..., before], count=count)
        edges = to_data_units(torch.arange(count - 1, device=x.device), count) + 1 / (count - 1)
        distance = edges - self._mean(channel, x)[..., None]
        cdf = torch.sigmoid(distance * torch.exp(-self.log_scales[..., channel, None]))
        below = (joint.softmax(-1)[..., None] * cdf).sum(-2)
        return torch.diff(F.pad(F.pad(below, (0, 1), value=1.0), (1, 0)), dim=-1)

    def _mean(self, channel: int, x: Tensor) -> Tensor:
        """The means of a channel, moved by the channels before it: [N, M]."""
        if channel == 0:
            return self.means[..., 0]  # the sum of nothing is nothing in torch, but has no value in the graph
        first = channel * (channel - 1) // 2
        couplings = self.couplings[..., first : first + channel]
        mean: Tensor = self.means[..., channel] + (couplings * x[..., None, :channel]).sum(-1)
        return mean


def log_mass(x: Tensor, mean: Tensor, log_scale: Tensor, *, count: int = 256) -> Tensor:
    """log of a logistic's mass in the bin around each level x; the outermost bins reach to infinity (eq. 2)."""
    half, inverse_scale = 1 / (count - 1), torch.exp(-log_scale)
    upper, lower = inverse_scale * (x - mean + half), inverse_scale * (x - mean - half)
    # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)), stable where both saturate.
    inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half * inverse_scale))
    return torch.where(x < half - 1, F.logsigmoid(upper), torch.where(x > 1 - half, F.logsigmoid(-lower), inside))


def uniform_bias(channels: int, components: int) -> Tensor:
    """The outputs of a network before it has learned: components spread over the range, each about as wide as their distance."""
    numbers = torch.zeros(components, outputs(channels, components) // components)
    numbers[:, 1 : 1 + channels] = torch.linspace(-1, 1, components + 2)[1:-1, None]
    numbers[:, 1 + channels : 1 + 2 * channels] = math.log(1 / components)
    return numbers.flatten()
