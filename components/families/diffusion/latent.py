"""Latent diffusion (Rombach et al. 2022, arXiv:2112.10752): an autoencoder first, then EDM diffusion of its codes.

The codes are standardised to the deviation that EDM's settings are made for; codes.py has the rest.

B batch, Z channels of the code, h and w its sides.
"""

from typing import Any

from pydantic import Field
from torch import nn

from components.core.card import Card
from components.core.records import DataSpec
from components.families.diffusion.codes import CodesConfig, OnCodes
from components.families.diffusion.network import guided
from components.families.diffusion.preconditioning import Denoiser, PreconditionedConfig, points
from components.families.diffusion.sampling import Sampler


class LatentConfig(PreconditionedConfig, CodesConfig):
    sigma_data: float = Field(default=0.5, gt=0, description="standard deviation that the codes are brought to")
    steps: int = Field(default=25, ge=1)

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Codes are standardised, so EDM's own noise levels hold whatever the data's deviation."""
        return super(PreconditionedConfig, cls).defaults(spec, light=light) | cls.of_codes(spec, light=light)


class Latent(OnCodes):
    """Diffusion for large images at a fraction of the cost, with an encoder; details are those of the autoencoder."""

    card = Card(
        family="diffusion",
        variant="latent",
        title="Latent diffusion: EDM on the codes of its own autoencoder, their scale measured",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=True,
        steps=49,
        side_max=1024,
        data_appetite=2_000,
        stepwise=True,
        solver="heun",
        on_codes=True,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        student="latent-ect",
        steers=True,
        references=("arXiv:2112.10752", "arXiv:2206.00364"),
    )
    Config = LatentConfig
    config: LatentConfig

    @property
    def deviation(self) -> float:
        return self.config.sigma_data

    def make_denoiser(self, codes: DataSpec) -> nn.Module:
        return Denoiser(self.config, codes)

    def code_sampler(self, steps: int | None) -> Sampler:
        levels = points(self.config, steps or self.config.steps)
        return Sampler(guided(self.denoiser, self.config), levels, solver=self.config.solver)
