"""Norms of the discriminator's gradient by its input, themselves differentiable (by a second backward pass).

B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor


def squared_norm(score_B: Tensor, x_BCHW: Tensor) -> Tensor:
    """|| d score_b / d x_b ||^2 for each item B. An item's score may depend on the others': then their scores count too."""
    (slope_BCHW,) = torch.autograd.grad(score_B.sum(), x_BCHW, create_graph=True)
    return slope_BCHW.float().square().sum((1, 2, 3))


def zero_centred(score_B: Tensor, x_BCHW: Tensor) -> Tensor:
    """E || grad D(x) ||^2 / 2: R1 where x is real, R2 where it is generated (Mescheder et al. 2018, arXiv:1801.04406, eq. 9)."""
    return squared_norm(score_B, x_BCHW).mean() / 2


def one_centred(score_B: Tensor, x_BCHW: Tensor) -> Tensor:
    """E (|| grad D(x) || - 1)^2 (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3)."""
    return ((squared_norm(score_B, x_BCHW) + 1e-12).sqrt() - 1).square().mean()
