"""What the families of this folder share: a model of a grid, its sampler, its exact likelihood where the grid is the image.

B batch, C channels, H height, W width; h, w the grid of codes.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.family import Batch, Family, FamilyConfig
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.autoregressive.grid import Grid, GridModel, to_data_units, to_levels
from components.families.images import image_of

LEVELS = 256  # of an 8-bit value


class PixelConfig(FamilyConfig):
    """What every model of pixels has."""

    width: int = Field(default=64, ge=8, description="features of a layer")
    dropout: float = Field(default=0.1, ge=0, lt=1)


class PixelSampler(nn.Module):
    """uniform_BCHW in [0, 1) (and class_B) -> x_BCHW of 8-bit levels in [-1, 1], one value after another."""

    def __init__(self, model: GridModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, uniform_BCHW: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return to_data_units(self.model.draw(uniform_BCHW, condition_B), LEVELS)


class PixelFamily(Family):
    """A family whose grid is the image itself: it sets `model`."""

    model: GridModel

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the negative log-likelihood in nats a value}. Nothing is drawn but dropout."""
        del rng
        nats_BCHW = self.model.log_prob(to_levels(batch.x, LEVELS), self._labels(batch.condition))
        return {"model": -nats_BCHW.mean()}

    def log_prob(self, x_BCHW: Tensor, labels_B: Tensor | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        """log p(x) in nats, exact: the mass of an image of 8-bit values. Nothing is drawn."""
        del rng
        return self.model.log_prob(to_levels(x_BCHW, LEVELS), self._labels(labels_B)).flatten(1).sum(1)

    def compilable(self) -> list[nn.Module]:
        """The layers of the model, which is itself asked for `log_prob` and never called."""
        layers: list[nn.Module] = []
        for part in self.model.children():
            layers += part if isinstance(part, nn.ModuleList) else [part]
        return layers

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="uniform", shape=self.spec.shape, distribution="uniform"),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        del steps  # one evaluation a value
        return PixelSampler(self.model)

    def _labels(self, labels_B: Tensor | None) -> Tensor | None:
        return labels_B if self.spec.conditional else None


def pixel_grid(spec: DataSpec) -> Grid:
    """The grid of an image."""
    classes = len(spec.classes) if spec.conditional else 0
    return Grid(image_of(spec).channels, image_of(spec).height, image_of(spec).width, LEVELS, classes)
