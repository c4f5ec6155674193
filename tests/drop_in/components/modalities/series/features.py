"""What judges series: two convolutions and a linear layer."""

import torch
from torch import nn

from components.core.features import FEATURES, Features, Trunk


class SeriesTrunk(Trunk):
    def __init__(self, length):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 16, 5, 2, 2), nn.SiLU(), nn.Conv1d(16, 16, 5, 2, 2), nn.SiLU(), nn.Flatten(), nn.LazyLinear(FEATURES)
        )
        self.layers(torch.zeros(1, 1, length))
        self.keep_standard()

    def forward(self, x):
        return self.layers(x[:, None])


class SeriesFeatures(Features):
    def to_tensor(self, items, spec):
        return torch.from_numpy(items.copy())

    def trunk(self, spec):
        return SeriesTrunk(spec.length)


features = SeriesFeatures()
