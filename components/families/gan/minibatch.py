"""Minibatch discrimination (Salimans et al. 2016, arXiv:1606.03498, section 3.2): D sees how near each image of a batch is to the
others, of which images that are all alike cannot make a secret.

    M_i = T f(x_i), K kernels of S numbers each,   c_k(x_i, x_j) = exp(-|M_ik - M_jk|_1),   o_k(x_i) = 1/B sum_j c_k(x_i, x_j)

o joins f(x) on the way to the score. In the paper it is the sum over the batch: the mean differs by a factor, and is the same
for batches of any size. Real and generated images are compared with their own only, as there. With kernels D's score of an image
depends on the others of its batch. The batch is that of all processes; of one that memory holds only in parts, each image is
compared with its part, as for `batch_deviation`.

B batch, F features, K kernels, S numbers of a kernel, N batch of all processes.
"""

import torch
from torch import Tensor, nn

from components.runtime.processes import processes, rows_over_processes

SIZE = 5  # S


class MinibatchDiscrimination(nn.Module):
    """h_BF -> h and o side by side, B(F + K). `project` is T, a layer from F to K S features."""

    def __init__(self, project: nn.Module, *, kernels: int) -> None:
        super().__init__()
        self.project, self.kernels = project, kernels

    def forward(self, h_BF: Tensor) -> Tensor:
        return torch.cat([h_BF, nearness(self.project(h_BF).unflatten(1, (self.kernels, SIZE)))], dim=1)


def nearness(m_BKS: Tensor) -> Tensor:
    """o_BK, over 0 to 1; 1 where a batch is all alike."""
    every_N = torch.arange(processes() * len(m_BKS), device=m_BKS.device)
    m_NKS = rows_over_processes(m_BKS.flatten(1), every_N).view(-1, *m_BKS.shape[1:])
    distance_BNK = (m_BKS[:, None] - m_NKS[None]).abs().sum(3)
    return torch.exp(-distance_BNK).mean(1)
