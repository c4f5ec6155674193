"""Denoising diffusion in discrete steps (Ho et al. 2020, arXiv:2006.11239) in pixels; steps.py has what is predicted and learnt.

`log_prob` is the bound of ancestral sampling, with the variances that were learned where they were (bound.py).

B batch, C channels, H height, W width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from components.core.card import Card
from components.core.errors import BriefError
from components.core.family import PIPELINES, Batch, Family
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.diffusion.augment import AugmentConfig, augmentation_planes, augmented
from components.families.diffusion.bound import Chain
from components.families.diffusion.pipelines import ddim_pipeline
from components.families.diffusion.process import trailing
from components.families.diffusion.steps import StepDenoiser, StepsConfig, step_sampler


class DDPMConfig(StepsConfig, AugmentConfig):
    """Small data may be augmented."""

    @property
    def planes(self) -> int:
        return augmentation_planes(self)


class DDPM(Family):
    """Diffusion in its first form, in discrete steps; what most published recipes, checkpoints and samplers speak."""

    card = Card(
        family="diffusion",
        variant="ddpm",
        title="Denoising diffusion in discrete steps, with epsilon, v or x0 prediction",
        modalities=("image",),
        conditioning=("none", "class"),
        likelihood="bound",
        latent=False,
        steps=50,
        side_max=256,
        data_appetite=1_000,
        stepwise=True,
        starts=("scratch", "finetune", "lora"),
        student="ddpm",
        student_steps=(8, 4, 2, 1),
        loop_above=4,
        student_rate=0.5,
        student_halves=True,
        references=("arXiv:2006.11239", "arXiv:2102.09672", "arXiv:2202.00512", "arXiv:2010.02502", "arXiv:2211.01095"),
    )
    Config = DDPMConfig
    config: DDPMConfig

    def __init__(self, config: DDPMConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.denoiser = StepDenoiser(config, spec)

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """{"model": the error of the prediction}."""
        images_BCHW, planes_BPHW = augmented(batch.x, self.config, rng)
        return {"model": self.denoiser.loss(images_BCHW, batch.condition, rng, planes_BPHW=planes_BPHW)}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        """One noise image an item; ancestral sampling takes one a step."""
        each = (self.config.steps,) if self.config.solver == "ancestral" else ()
        return (NoiseInput(name="noise", shape=(*each, *self.spec.shape)),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return step_sampler(self.denoiser, self.config, steps)

    def log_prob(
        self, x_BCHW: Tensor, labels_B: Tensor | None = None, *, rng: torch.Generator | None = None, draws: int = 16
    ) -> Tensor:
        """A lower bound of log p(x) in nats, of 8-bit images, by `draws` steps of the chain and its last one: an estimate
        without bias. It is that of ancestral sampling over all levels, without guidance, whatever the solver and its steps."""
        rng = rng or torch.Generator(x_BCHW.device).manual_seed(0)

        def denoise(noisy_BCHW: Tensor, time_B: Tensor) -> tuple[Tensor, Tensor | None]:
            image_BCHW, share_BCHW = self.denoiser.moments(noisy_BCHW, time_B, labels_B if self.spec.conditional else None)
            return image_BCHW.clamp(-1, 1) if self.config.clip else image_BCHW, share_BCHW

        return -self._chain().cost(x_BCHW, denoise, rng, draws=draws)

    def pipeline(self) -> Any:
        """A DDIMPipeline of the network and its schedule; with classes the network is to be asked for one at each step."""
        if self.config.dense or self.config.patch != 1 or augmentation_planes(self.config):
            what = "dense" if self.config.dense else f"patch: {self.config.patch}" if self.config.patch != 1 else "augment"
            raise BriefError(f"diffusion/ddpm with {what} cannot be written as a pipeline of diffusers", allowed=PIPELINES)
        return ddim_pipeline(self.denoiser.net, self.config, self.spec)

    def _chain(self) -> Chain:
        """All levels; of a student the few that it draws from."""
        if not self.config.own_levels:
            return self.denoiser.chain
        few = trailing(self.config.process(), self.config.steps)[::-1]
        return Chain(few, deviation=self.spec.std).to(self.denoiser.alpha_T.device)
