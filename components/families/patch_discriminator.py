"""A discriminator of patches (Isola et al. 2017, arXiv:1611.07004, section 3.2), and how much an autoencoder heeds it.

    L_D    = E[max(0, 1 - D(x))] + E[max(0, 1 + D(x^))]                                                          (hinge)
    lambda = |dL_rec / dW| / (|d E[D(x^)] / dW| + 1e-4),   at most 1e4,   W: the weights of the decoder's last layer

(Esser et al. 2021, arXiv:2012.09841, eqs. 5 to 7; the bound is that of their code.) Two things differ from theirs:

- Spectral norms (Miyato et al. 2018, arXiv:1802.05957) stand in place of batch normalisation, so an image's scores depend on no
  other image, and the last layer has no bias: while no score passes the hinge its slope is exactly zero, and Adam would make
  steps of rounding errors.
- lambda is made of the slopes of the batch before, kept as buffers. Slopes are means over the items, so those of parts and of
  processes add up to the batch's; a part's ratio of norms is not the batch's.

B batch, C channels, H height, W width; h and w the grid of patches.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from components.core.errors import BriefError
from components.core.records import DataSpec
from components.families.images import image_of
from components.runtime.processes import mean_over_processes

HALVINGS = 3  # a score is of a patch of 38 pixels a side
SLOPE_MIN, LAMBDA_MAX = 1e-4, 1e4


class PatchDiscriminator(nn.Module):
    """x_BCHW -> scores_B1hw, one for each patch. `last_layer`: of the decoder.

    Raises BriefError where images are smaller than a patch's grid, or the decoder does not end in a convolution.
    """

    slope_error: Tensor
    slope_score: Tensor

    def __init__(self, spec: DataSpec, *, width: int, last_layer: nn.Module) -> None:
        super().__init__()
        image = image_of(spec)
        if min(image.height, image.width) < 2**HALVINGS or not isinstance(last_layer, nn.Conv2d):
            given = f"override.config.adversarial: for images of {image.height} x {image.width} pixels"
            raise BriefError(given, allowed=f"0, or images of {2**HALVINGS} pixels a side and more")
        widths = [image.channels, *(width * 2**level for level in range(HALVINGS))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)))
        self.register_buffer("slope_error", torch.zeros_like(last_layer.weight, requires_grad=False))
        self.register_buffer("slope_score", torch.zeros_like(last_layer.weight, requires_grad=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scores_B1hw: Tensor = self.body(x_BCHW)
        return scores_B1hw

    def loss(self, x_BCHW: Tensor, back_BCHW: Tensor) -> Tensor:
        """L_D of images and of what an autoencoder makes of them."""
        real_B1hw, back_B1hw = self(torch.cat([x_BCHW, back_BCHW])).chunk(2)
        loss: Tensor = F.relu(1 - real_B1hw).mean() + F.relu(1 + back_B1hw).mean()
        return loss

    def weight(self) -> Tensor:
        """lambda, by the slopes that were measured last; 0 before."""
        error, score = torch.linalg.vector_norm(self.slope_error), torch.linalg.vector_norm(self.slope_score)
        weight: Tensor = (error / (score + SLOPE_MIN)).clamp(max=LAMBDA_MAX)
        return weight

    def measure(self, error: Tensor, score: Tensor, last_layer: nn.Module) -> None:
        """Keep the slopes of L_rec and of the mean score, for the next batch."""
        assert isinstance(last_layer.weight, Tensor)
        for kept, value in ((self.slope_error, error), (self.slope_score, score)):
            (slope,) = torch.autograd.grad(value, [last_layer.weight], retain_graph=True)
            kept.copy_(mean_over_processes(slope.detach().to(kept.dtype)))
