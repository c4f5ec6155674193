"""Where a training computes, and how precisely: float32 on a CPU; on a GPU bfloat16 wherever autocast holds it to be safe.

The trainer asks torch itself. What several processes share is in components/runtime/processes.py, so no wrapper of a model or an
optimizer is needed: Lightning Fabric did no more here than this file, for eight seconds of import in every training.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from components.runtime.processes import processes_here, rank_here
from components.runtime.threads import default_threads


@dataclass(frozen=True)
class TrainingDevice:
    """One device, and the arithmetic on it."""

    device: torch.device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[None]:
        """For the forward pass; the backward pass follows it by itself."""
        return torch.autocast("cuda", torch.bfloat16) if self.on_gpu else nullcontext()


def open_device(kind: Literal["cpu", "cuda"], *, threads: int) -> TrainingDevice:
    """The device, one of several GPUs for each process; this process computes with so many threads, or its share of the cores."""
    torch.set_num_threads(threads or default_threads(shared_by=processes_here()))
    if kind == "cpu":
        return TrainingDevice(torch.device("cpu"))
    torch.cuda.set_device(rank_here())
    return TrainingDevice(torch.device("cuda", rank_here()))
