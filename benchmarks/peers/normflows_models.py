# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "normflows==1.7.3", "numpy"]
# ///
"""normflows: its multi-scale Glow, and RealNVP as masked affine couplings over the flattened image; uniform dequantisation.

bits/dim = (nats / D - ln(1/256)) / ln 2      of y = (x + u) / 256, u uniform in [0, 1): an upper bound of the 8-bit images'
"""

import math
from typing import Any

import normflows as nf
import torch
from task import Task, linear_decay
from torch import Tensor

LR_PEAK = 1e-3


def glow(channels: int, height: int, width: int) -> Any:
    assert height % 4 == width % 4 == 0, "its two halvings want sides that four divides"
    levels = 2
    flows, merges, bases = [], [], []
    for level in range(levels):
        blocks = [
            nf.flows.GlowBlock(channels * 2 ** (levels + 1 - level), 64, split_mode="channel", scale=True) for _ in range(8)
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        if level > 0:
            merges.append(nf.flows.Merge())
            size = (channels * 2 ** (levels - level), height // 2 ** (levels - level), width // 2 ** (levels - level))
        else:
            size = (channels * 2 ** (levels + 1), height // 2**levels, width // 2**levels)
        bases.append(nf.distributions.DiagGaussian(size))
    return nf.MultiscaleFlow(bases, flows, merges)


def realnvp(dimensions: int) -> Any:
    mask = torch.arange(dimensions) % 2
    flows: list[Any] = []
    for at in range(8):
        scale = nf.nets.MLP([dimensions, 128, 128, dimensions], init_zeros=True)
        shift = nf.nets.MLP([dimensions, 128, 128, dimensions], init_zeros=True)
        flows += [nf.flows.MaskedAffineFlow((mask + at) % 2, shift, scale), nf.flows.ActNorm(dimensions)]
    return nf.NormalizingFlow(nf.distributions.DiagGaussian(dimensions), flows)


def main() -> None:
    task = Task()
    channels, height, width = task.shape
    dimensions = channels * height * width
    flat = task.model == "realnvp"
    model = realnvp(dimensions) if flat else glow(channels, height, width)
    model = model.to(task.device)

    def dequantised(x_BCHW: Tensor) -> Tensor:
        y = (x_BCHW * 255 + torch.rand_like(x_BCHW)) / 256 - 0.5
        return y.flatten(1) if flat else y

    def bits(x_BCHW: Tensor) -> Tensor:
        y = dequantised(x_BCHW)
        nats_B: Tensor = -(model.log_prob(y) if flat else model.log_prob(y, None)) / dimensions  # None: no classes
        return (nats_B + math.log(256)) / math.log(2)

    optimizer = torch.optim.Adamax(model.parameters(), lr=LR_PEAK, weight_decay=1e-5)
    for x_BCHW, done in task.batches(64):
        loss = bits(x_BCHW).mean()
        optimizer.zero_grad()
        if bool(loss.isfinite()):
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            linear_decay(optimizer, peak=LR_PEAK, done=done)
            optimizer.step()
    model.eval()

    def sample(n: int) -> Tensor:
        drawn, _ = model.sample(n)
        return drawn.reshape(n, *task.shape) + 0.5

    with torch.no_grad():
        held_out = task.units(task.held_out_NHWC[:1000]).to(task.device)
        bits_M = torch.cat([bits(part) for part in held_out.split(100)])
    task.finish(model, sample, bits_per_dim=bits_M)


if __name__ == "__main__":
    main()
