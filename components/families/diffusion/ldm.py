"""Latent diffusion in discrete steps (Rombach et al. 2022, arXiv:2112.10752): the noise levels of the paper, by a U-Net.

It is what most published latent models are, so one that was made elsewhere as diffusers' LDMPipeline or StableDiffusionPipeline
is one of these: `network` and `autoencoder` hold the configs of both. `latent` is the same in EDM's formulation, which takes
fewer steps.

In the bound of learned variances the last step is weighed as if codes were 8-bit values, as in the code of Peebles & Xie 2022.

B batch, Z channels of the code, h and w its sides.
"""

from typing import Any

from pydantic import Field
from torch import nn

from components.core.card import Card
from components.core.noise import NoiseInput
from components.core.records import DataSpec
from components.families.diffusion.given_codes import GivenCodesConfig, OnGivenCodes
from components.families.diffusion.pipelines import ldm_pipeline, text_pipeline
from components.families.diffusion.sampling import Sampler
from components.families.diffusion.steps import StepDenoiser, StepsConfig, step_sampler
from components.families.texts import text_of


class LDMConfig(StepsConfig, GivenCodesConfig):
    meaning = (*StepsConfig.meaning, "autoencoder")
    clip: bool = Field(default=False, description="bound denoised codes to [-1, 1] in sampling")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        return super().defaults(spec, light=light) | cls.of_codes(spec, light=light)


class LDM(OnGivenCodes):
    """Latent diffusion as it was published; most checkpoints of latent models are of this kind."""

    card = Card(
        family="diffusion",
        variant="ldm",
        title="Latent diffusion in discrete steps, by a U-Net",
        modalities=("image",),
        conditioning=("none", "class", "text"),
        likelihood="none",
        latent=True,
        steps=50,
        side_max=1024,
        data_appetite=2_000,
        stepwise=True,
        on_codes=True,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        steers=True,
        student="lcm",
        references=("arXiv:2112.10752", "arXiv:2006.11239"),
    )
    Config = LDMConfig
    config: LDMConfig

    def make_denoiser(self, codes: DataSpec) -> nn.Module:
        return StepDenoiser(self.config, codes)

    def code_sampler(self, steps: int | None) -> Sampler:
        return step_sampler(self.denoiser, self.config, steps)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        """One noise an item; ancestral sampling takes one a step."""
        each = (self.config.steps,) if self.config.solver == "ancestral" else ()
        return (NoiseInput(name="noise", shape=(*each, *self.autoencoder.shape)),)

    @property
    def lora_part(self) -> str:
        """A StableDiffusionPipeline has that call."""
        return "unet" if self.config.network and text_of(self.spec) is not None else ""

    def as_pipeline(self, autoencoder: nn.Module) -> Any:
        """diffusers' pipeline with this autoencoder."""
        if text_of(self.spec) is not None:
            return text_pipeline(self.denoiser.net.unet, autoencoder, self.config)
        return ldm_pipeline(self.denoiser.net, autoencoder, self.config)
