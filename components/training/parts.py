"""What the parts of a batch leave in the buffers of a model: what the whole would.

Each part begins with the buffers as the step found them, whatever the part before it left there. In the end they hold

    b = sum_p share_p b_p        for what is a mean over the items: running moments, counts of signs

and, of integers and where all parts agree, what the first part left: the turns of a power iteration, a number of batches.
"""

import torch
from torch import Tensor, nn


class PartBuffers:
    """The buffers of a module over one step."""

    def __init__(self, module: nn.Module) -> None:
        self.buffers = list(module.buffers())
        self.before = [buffer.clone() for buffer in self.buffers]
        self.left: list[list[Tensor]] = []
        self.shares: list[float] = []

    @torch.no_grad()
    def begin(self) -> None:
        """Before a part."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)

    @torch.no_grad()
    def end(self, share: float) -> None:
        """After a part that is this share of the batch."""
        self.left.append([buffer.clone() for buffer in self.buffers])
        self.shares.append(share)

    @torch.no_grad()
    def merge(self) -> None:
        """After the last one."""
        for buffer, (first, *others) in zip(self.buffers, zip(*self.left, strict=True), strict=True):
            buffer.copy_(first)
            if buffer.is_floating_point():
                for other, share in zip(others, self.shares[1:], strict=True):
                    buffer.add_(share * (other - first))
