"""What a peer is given and what it gives back: images in a file, a clock, and a file for its samples. Needs numpy and torch.

    python PEER.py DATA.npz OUT.npz --model NAME --seconds S --seed K --samples N --threads T --device D

DATA.npz holds `train` and `held_out`, uint8 [N, H, W, C]. OUT.npz gets `images` (uint8 [N, H, W, C]), `steps`, `batch_size`,
`train_s`, `sample_s`, `parameters`, and `bits_per_dim` [M] where the model has a likelihood.

B batch, C channels, H height, W width.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SAMPLE_BATCH = 250


class Task:
    """One training under a budget of seconds, told on the command line."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("data", type=Path)
        parser.add_argument("out", type=Path)
        parser.add_argument("--model", default="")
        parser.add_argument("--seconds", type=float, required=True)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--samples", type=int, default=1000)
        parser.add_argument("--threads", type=int, default=1)
        parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        options = parser.parse_args()
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        with np.load(options.data) as data:
            self.train_NHWC, self.held_out_NHWC = data["train"], data["held_out"]
        self.model: str = options.model
        self.seconds: float = options.seconds
        self.samples: int = options.samples
        self.out: Path = options.out
        self.rng = torch.Generator().manual_seed(options.seed)
        self.device: str = options.device
        self.steps = self.batch_size = 0
        self.train_s = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        _, height, width, channels = self.train_NHWC.shape
        return channels, height, width

    @property
    def patch(self) -> int:
        """Pixels a side that a diffusion model takes as one place: what ours do above side 16 on a CPU, for more steps."""
        return 2 if self.device == "cpu" and max(self.shape) > 16 else 1

    def units(self, images_NHWC: "np.ndarray") -> Tensor:
        """x_NCHW in [0, 1]."""
        return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).float().div_(255)

    def batches(self, size: int) -> Iterator[tuple[Tensor, float]]:
        """x_BCHW in [0, 1] and the share of the budget spent, until the time is over."""
        x_NCHW = self.units(self.train_NHWC).to(self.device)
        self.batch_size = min(size, len(x_NCHW))
        began = time.monotonic()
        while (spent := time.monotonic() - began) < self.seconds:
            order_N = torch.randperm(len(x_NCHW), generator=self.rng).to(self.device)
            for at in range(0, len(x_NCHW) - self.batch_size + 1, self.batch_size):
                if (spent := time.monotonic() - began) >= self.seconds:
                    break
                yield x_NCHW[order_N[at : at + self.batch_size]], spent / self.seconds
                self.steps += 1
        self.train_s += spent

    def finish(self, model: torch.nn.Module, sample: Callable[[int], Tensor], *, bits_per_dim: Tensor | None = None) -> None:
        """Draw with `sample(n) -> x_nCHW in [0, 1]` and write the result."""
        began = time.monotonic()
        with torch.no_grad():
            parts = [min(SAMPLE_BATCH, self.samples - at) for at in range(0, self.samples, SAMPLE_BATCH)]
            drawn = [sample(n).float().cpu() for n in parts]
        sample_s = time.monotonic() - began
        images_NHWC = torch.cat(drawn).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
        told = {} if bits_per_dim is None else {"bits_per_dim": bits_per_dim.double().cpu().numpy()}
        np.savez(
            self.out,
            images=images_NHWC,
            steps=self.steps,
            batch_size=self.batch_size,
            train_s=self.train_s,
            sample_s=sample_s,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            versions=np.array([f"{package}=={version(package)}" for package in _pinned()]),
            **told,
        )


def _pinned() -> list[str]:
    """The packages that the head of the running script pins."""
    head = Path(sys.argv[0]).read_text().split("# ///")[1]
    return re.findall(r'"([a-z0-9-]+)==', head)


def linear_decay(optimizer: torch.optim.Optimizer, *, peak: float, done: float, start: float = 0.7) -> None:
    """The learning rate flat, then linear to zero: the schedule of our own recipes, so that no peer lacks it."""
    for group in optimizer.param_groups:
        group["lr"] = peak * max(min(1.0, (1 - done) / (1 - start)), 1e-3)
