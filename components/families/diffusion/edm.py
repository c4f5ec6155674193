"""Diffusion in pixels as in EDM (Karras et al. 2022, arXiv:2206.00364): preconditioning, noise levels and Heun's sampler.

B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor, nn

from components.core.card import Card
from components.core.family import Batch, Family
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.diffusion.augment import AugmentConfig, augmentation_planes, augmented
from components.families.diffusion.network import guided
from components.families.diffusion.preconditioning import Denoiser, PreconditionedConfig, points
from components.families.diffusion.sampling import Sampler


class EDMConfig(PreconditionedConfig, AugmentConfig):
    """EDM's defaults, in proportion to the data's deviation."""


class EDM(Family):
    """The best samples and full mode coverage with a stable loss; many network evaluations a sample."""

    card = Card(
        family="diffusion",
        variant="edm",
        title="Diffusion with EDM preconditioning and the Heun sampler",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=False,
        steps=35,
        side_max=64,
        data_appetite=1_000,
        stepwise=True,
        solver="heun",
        starts=("scratch", "finetune", "lora"),
        student="ect",
        steers=True,
        references=("arXiv:2206.00364", "arXiv:2010.02502"),
    )
    Config = EDMConfig
    config: EDMConfig

    def __init__(self, config: EDMConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.denoiser = Denoiser(config, spec, planes=augmentation_planes(config))

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the weighted denoising error of eq. 2}."""
        images_BCHW, planes_BPHW = augmented(batch.x, self.config, rng)
        return {"model": self.denoiser.loss(images_BCHW, batch.condition, rng, planes_BPHW=planes_BPHW)}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.spec.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        levels = points(self.config, steps or self.config.steps)
        denoise = guided(self.denoiser, self.config)
        return Sampler(denoise, levels, solver=self.config.solver, mean=self.denoiser.mean_C11)
