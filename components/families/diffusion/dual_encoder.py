"""Images and what they are asked for by in one space (CLIP, Radford et al. 2021, arXiv:2103.00020, section 2.3), learned from the
data alone.

    L = (CE(s z y^T, same) + CE(s y z^T, same)) / 2,     z = E_x(x) / |E_x(x)|,  y = E_t(t) / |E_t(t)|,  s learned

`same` is 1 for the items of a batch whose texts are equal, divided by how many they are: small data have one caption for
several images, which the paper's batches hardly meet. The text tower reads what a pinned encoder has made of the text; of classes
it is a table. Where nothing is asked for, y is the embedding of the same image, moved and mirrored another way, and only an
image and itself are the same (SimCLR, Chen et al. 2020, arXiv:2002.05709, section 2.1).

B batch, C channels, H height, W width, L rows of a text, D features of a row, E size of an embedding.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.records import DataSpec
from components.families.diffusion.augment import AugmentConfig, augmented
from components.families.pyramid import Encoder, PyramidConfig
from components.families.texts import mean_row, text_of
from components.runtime.processes import processes, rows_over_processes

SCALE, SCALE_MAX = 1 / 0.07, 100.0  # s at first, and at most (the paper's)

VIEWS = AugmentConfig(augment=0.5)


class DualEncoder(nn.Module):
    """x_BCHW -> z_BE and text_BLD or class_B -> y_BE, each of length 1."""

    def __init__(self, config: PyramidConfig, spec: DataSpec, *, size: int) -> None:
        super().__init__()
        self.image = Encoder(config, spec.model_copy(update={"condition": None}), outputs=size)
        self.asked: nn.Module | None = nn.Embedding(len(spec.classes), size) if spec.classes else None
        if text := text_of(spec):
            self.asked = nn.Sequential(nn.Linear(text.features, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def of_images(self, x_BCHW: Tensor) -> Tensor:
        return F.normalize(self.image(x_BCHW), dim=1)

    def of_asked(self, condition: Tensor) -> Tensor:
        assert self.asked is not None
        return F.normalize(self.asked(_told(condition)), dim=1)

    def row(self, condition: Tensor) -> Tensor:
        """What another network is told, as one row: of a class y_B1E, of a text [y; mean of its rows] in B1(E+D), or zeros where
        it has none."""
        y_BE = self.of_asked(condition)
        y_BE = math.sqrt(y_BE.shape[1]) * y_BE  # numbers of a deviation of 1, as those of the rows
        if condition.ndim == 1:
            return y_BE[:, None]
        row_BD = mean_row(condition)
        return torch.cat([y_BE * (row_BD != 0).any(1, keepdim=True), row_BD], dim=1)[:, None]

    def loss(self, x_BCHW: Tensor, condition: Tensor | None, rng: torch.Generator) -> Tensor:
        """Nats an item, over the batches of all processes together."""
        if condition is None:
            one_BE, other_BE = (_of_all(self.of_images(augmented(x_BCHW, VIEWS, rng)[0])) for _ in range(2))
            same_BB = torch.eye(len(one_BE), device=one_BE.device)
        else:
            told = _told(condition)
            one_BE, other_BE, all_BD = map(_of_all, (self.of_images(x_BCHW), self.of_asked(condition), told.view(len(told), -1)))
            same_BB = (all_BD[:, None] == all_BD[None]).all(2).to(one_BE.dtype)
        target_BB = same_BB / same_BB.sum(1, keepdim=True)
        logits_BB = self.log_scale.exp().clamp(max=SCALE_MAX) * one_BE @ other_BE.T
        loss: Tensor = (F.cross_entropy(logits_BB, target_BB) + F.cross_entropy(logits_BB.T, target_BB)) / 2
        return loss


def _told(condition: Tensor) -> Tensor:
    """A class as it is, of a text the mean of its rows."""
    return condition if condition.ndim == 1 else mean_row(condition)


def _of_all(rows_BD: Tensor) -> Tensor:
    """Those of all processes, one after another."""
    return rows_over_processes(rows_BD, torch.arange(processes() * len(rows_BD), device=rows_BD.device))
