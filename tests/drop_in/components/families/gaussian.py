"""Each value a Gaussian of its own, of series."""

import torch
from torch import nn

from components.core.card import Card
from components.core.family import Family, FamilyConfig
from components.core.noise import NoiseInput


class Sampler(nn.Module):
    def __init__(self, family):
        super().__init__()
        self.mean, self.log_std = family.mean, family.log_std

    def forward(self, noise):
        return self.mean + self.log_std.exp() * noise


class Gaussian(Family):
    card = Card(
        family="parametric", variant="gaussian", title="A Gaussian a value", modalities=("series",), likelihood="none",
        latent=False, steps=1, side_max=64, data_appetite=100, references=("none",),
    )  # fmt: skip
    Config = FamilyConfig

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.mean = nn.Parameter(torch.zeros(spec.shape))
        self.log_std = nn.Parameter(torch.zeros(spec.shape))

    def losses(self, batch, rng):
        return {"model": (self.log_std + 0.5 * ((batch.x - self.mean) / self.log_std.exp()) ** 2).mean()}

    def noise_inputs(self):
        return (NoiseInput(name="noise", shape=self.spec.shape),)

    def sampler(self, *, steps=None):
        return Sampler(self)
