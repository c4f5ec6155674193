"""A family whose quality has a dial and whose faults are planted: it is fitted to the training data in one step, so that what
the gates say of its releases is known before.

N training items of K classes, D values an item, B items drawn, R directions.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.core.records import DataSpec

BANK = 1438  # training items of the digits
CARD = Card(
    family="planted", variant="gaussians", title="A Gaussian a class", modalities=("image",), conditioning=("class",),
    likelihood="none", latent=False, steps=1, side_max=64, data_appetite=100, references=("none",),
)  # fmt: skip


class Config(FamilyConfig):
    rank: int = 20  # principal directions of each class
    fault: Literal["none", "collapse", "copies", "noise", "blur", "contrast", "imbalance"] = "none"
    level: float = 0.0  # classes left; share of copies or of one class; deviation of the noise; factor of the contrast


class Sampler(nn.Module):
    """Draws around a class's mean along its principal directions, and plants the fault."""

    def __init__(self, family: "Planted") -> None:
        super().__init__()
        self.config, self.shape = family.config, family.spec.shape
        for name, value in family.named_buffers():
            self.register_buffer(name, value)

    def forward(self, z: Tensor, eps: Tensor, chance: Tensor, label_B: Tensor) -> Tensor:
        fault, level = self.config.fault, self.config.level  # type: ignore[attr-defined]
        if fault == "collapse":
            label_B = label_B % int(level)
        elif fault == "imbalance":
            label_B = torch.where(chance[:, 0] < level, torch.zeros_like(label_B), label_B)
        x_BCHW = (self.mean[label_B] + (z[:, None] @ self.directions[label_B])[:, 0]).view(-1, *self.shape).clamp(-1, 1)  # type: ignore[index]
        if fault == "copies":
            known_BCHW = self.bank[(chance[:, 1] * BANK).long().clamp(max=BANK - 1)].view(-1, *self.shape)  # type: ignore[index]
            shifted_BCHW = torch.cat([known_BCHW[..., :1], known_BCHW[..., :-1]], dim=-1)
            x_BCHW = torch.where((chance[:, 0] < level)[:, None, None, None], shifted_BCHW, x_BCHW)
        elif fault == "noise":
            x_BCHW = x_BCHW + level * eps
        elif fault == "blur":
            x_BCHW = F.avg_pool2d(x_BCHW, 3, stride=1, padding=1, count_include_pad=False)
        elif fault == "contrast":
            x_BCHW = (x_BCHW + 1) * level - 1
        return x_BCHW.clamp(-1, 1)


class Planted(Family):
    card = CARD
    Config = Config

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        d, k = math.prod(spec.shape), len(spec.classes)
        self.unused = nn.Parameter(torch.ones(1))  # a training has something to train
        self.register_buffer("bank", torch.zeros(BANK, d))
        self.register_buffer("mean", torch.zeros(k, d))
        self.register_buffer("directions", torch.zeros(k, config.rank, d))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        return {"model": self.unused.square().sum()}

    def calibrate(self, batches: Iterator[Batch]) -> None:
        parts = list(batches)
        x_ND = torch.cat([part.x.flatten(1) for part in parts])[:BANK]
        label_N = torch.cat([part.condition for part in parts if part.condition is not None])[:BANK]
        self.bank[: len(x_ND)] = x_ND
        for label in range(len(self.mean)):
            own_ND = x_ND[label_N == label]
            self.mean[label] = own_ND.mean(0)
            _, scale_R, directions_RD = torch.linalg.svd(own_ND - self.mean[label], full_matrices=False)
            rank = self.directions.shape[1]
            self.directions[label] = scale_R[:rank, None] / (len(own_ND) - 1) ** 0.5 * directions_RD[:rank]

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (
            NoiseInput(name="z", shape=(self.config.rank,)),  # type: ignore[attr-defined]
            NoiseInput(name="eps", shape=tuple(self.spec.shape)),
            NoiseInput(name="chance", shape=(2,), distribution="uniform"),
        )

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return Sampler(self)
