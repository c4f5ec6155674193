"""A family's own sampler in torch, as an ItemSampler: the reference that the exported graph must agree with."""

from collections.abc import Sequence

import numpy as np
import torch

from components.core.arrays import Asked, Stored
from components.core.family import Family
from components.core.noise import draw
from components.core.units import to_stored


class TorchSampler:
    """Seeds in, stored items out; item k depends on seeds[k] and asked[k] alone."""

    def __init__(self, family: Family, *, subject: str, steps: int | None = None, device: str = "cpu", batch: int = 64) -> None:
        self.family = family
        self.module = family.sampler(steps=steps).eval().to(device)
        self.subject = subject
        self.device = device
        self.batch = batch

    @torch.inference_mode()
    def __call__(self, seeds: Sequence[int], asked: Asked | None = None) -> Stored:
        """One stored item a seed, [N, *stored_shape]; without `asked` the first class, or zeros."""
        spec = self.family.spec
        out = []
        for at in range(0, len(seeds), self.batch):
            noise = draw(self.family.noise_inputs(), seeds[at : at + self.batch])
            inputs = [torch.from_numpy(value).to(self.device) for value in noise.values()]
            if spec.condition is not None:
                rows = spec.condition.rows(len(inputs[0]), None if asked is None else asked[at : at + self.batch])
                inputs.append(torch.from_numpy(rows).to(self.device))
            out.append(to_stored(self.module(*inputs).float().cpu().numpy(), spec.item))
        return np.concatenate(out)
