"""The exponential moving average of the weights, which is what is evaluated and exported.

The decay ramps up from the start, min(decay, (1 + t) / (10 + t)), so that early readings are not dominated by the
initialisation (as in TensorFlow's ExponentialMovingAverage).
"""

import copy

import torch
from torch import Tensor, nn

from components.core.family import Family


class Average:
    """A copy of a family whose parameters trail the trained ones; its buffers are copied. Parameters that rest it shares."""

    def __init__(self, family: Family, *, decay: float) -> None:
        resting = {id(each): each for each in family.parameters() if not each.requires_grad}
        self.family = copy.deepcopy(family, dict(resting)).eval().requires_grad_(requires_grad=False)
        self.trailing: list[Tensor] = [each for each in self.family.parameters() if id(each) not in resting]
        self.decay = decay

    @torch.no_grad()
    def update(self, family: nn.Module, *, step: int) -> None:
        """Move towards the weights after step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        learnt: list[Tensor] = [each for each in family.parameters() if each.requires_grad]
        torch._foreach_lerp_(self.trailing, learnt, 1 - decay)
        for own, trained in zip(self.family.buffers(), family.buffers(), strict=True):
            own.copy_(trained)
