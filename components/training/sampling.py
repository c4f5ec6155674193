"""A family's own sampler in torch, as an ImageSampler: the reference that the exported graph must agree with."""

from collections.abc import Sequence

import torch

from components.core.family import Family
from components.core.noise import draw
from components.core.protocols import Images
from components.runtime.session import to_uint8


class TorchSampler:
    """Seeds in, images out; image k depends on seeds[k] and labels[k] alone."""

    def __init__(self, family: Family, *, subject: str, steps: int | None = None, device: str = "cpu", batch: int = 64) -> None:
        self.family = family
        self.module = family.sampler(steps=steps).eval().to(device)
        self.subject = subject
        self.device = device
        self.batch = batch

    @torch.inference_mode()
    def __call__(self, seeds: Sequence[int], labels: Sequence[int] | None = None) -> Images:
        """One image a seed, uint8 [N, H, W, C]."""
        out = []
        for at in range(0, len(seeds), self.batch):
            noise = draw(self.family.noise_inputs(), seeds[at : at + self.batch])
            inputs = [torch.from_numpy(value).to(self.device) for value in noise.values()]
            if self.family.spec.conditional:
                chosen = labels[at : at + self.batch] if labels else [0] * len(inputs[0])
                inputs.append(torch.tensor(chosen, device=self.device))
            out.append(self.module(*inputs).float().cpu())
        return to_uint8(torch.cat(out).numpy())
