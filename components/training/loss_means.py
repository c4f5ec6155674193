"""The losses between two log lines."""

import time

import torch
from torch import Tensor

LOG_EVERY_S = 0.2


class LossMeans:
    """Losses averaged between two log lines, summed on the device: no host synchronisation in a step."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[Tensor, int]] = {}
        self.last: dict[str, float] = {}
        self.since = time.monotonic()

    def add(self, losses: dict[str, Tensor]) -> None:
        for group, loss in losses.items():
            total, n = self.sums.get(group, (torch.zeros_like(loss), 0))
            self.sums[group] = (total + loss, n + 1)

    def due(self) -> bool:
        return time.monotonic() - self.since > LOG_EVERY_S

    def take(self) -> dict[str, float]:
        means = {group: float(total) / n for group, (total, n) in self.sums.items()}
        self.sums, self.since = {}, time.monotonic()
        self.last = means or self.last
        return means
