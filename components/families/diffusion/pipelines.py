"""Models of discrete steps as pipelines of diffusers, which share their weights; each draws as the sampler here does."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

from components.core.records import DataSpec
from components.families.diffusion.process import Schedule
from components.families.images import image_of


class ProcessConfig(Protocol):
    """What a scheduler of diffusers is told: StepsConfig."""

    @property
    def schedule(self) -> Schedule: ...
    @property
    def levels(self) -> int: ...
    @property
    def prediction(self) -> str: ...
    @property
    def clip(self) -> bool: ...
    @property
    def zero_snr(self) -> bool: ...
    @property
    def betas_from(self) -> float | None: ...
    @property
    def betas_to(self) -> float | None: ...


def ddim_pipeline(network: nn.Module, config: ProcessConfig, spec: DataSpec) -> Any:
    """A DDIMPipeline of a U-Net. The images are the same with `use_clipped_model_output=True`, as here the noise follows from the
    bounded image, too."""
    from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline

    image = image_of(spec)
    side = image.height if image.height == image.width else [image.height, image.width]
    network.register_to_config(sample_size=side)  # type: ignore[operator]
    return DDIMPipeline(unet=network, scheduler=ddim_scheduler(config))


def ldm_pipeline(network: nn.Module, autoencoder: nn.Module, config: ProcessConfig) -> Any:
    """An LDMPipeline of a U-Net of codes and its autoencoder."""
    from diffusers.pipelines.deprecated.latent_diffusion_uncond.pipeline_latent_diffusion_uncond import LDMPipeline

    return LDMPipeline(vqvae=autoencoder, unet=network, scheduler=ddim_scheduler(config))


def text_pipeline(network: nn.Module, autoencoder: nn.Module, config: ProcessConfig) -> Any:
    """A StableDiffusionPipeline without what reads texts, which is no part of a model here: it lies beside it as published."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    parts: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    parts |= {"unet": network, "vae": autoencoder, "scheduler": ddim_scheduler(config, offset=1)}
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


def flow_pipeline(network: nn.Module, autoencoder: nn.Module, *, shift: float) -> Any:
    """An AuraFlowPipeline, likewise without what reads texts."""
    from diffusers.pipelines.aura_flow.pipeline_aura_flow import AuraFlowPipeline

    reads: dict[str, Any] = {"text_encoder": None, "tokenizer": None}
    return AuraFlowPipeline(**reads, vae=autoencoder, transformer=network, scheduler=flow_scheduler(shift=shift))


def dit_pipeline(network: nn.Module, autoencoder: nn.Module, config: ProcessConfig, *, classes: Sequence[str]) -> Any:
    """A DiTPipeline. Its call takes label 1000 for none of the classes, so that with another number of them it has no guidance
    (guidance_scale=1)."""
    from diffusers.pipelines.dit.pipeline_dit import DiTPipeline

    labels = dict(enumerate(classes))
    return DiTPipeline(transformer=network, vae=autoencoder, scheduler=ddim_scheduler(config), id2label=labels)


def lcm_scheduler(config: ProcessConfig, *, taught: int) -> Any:
    """An LCMScheduler that draws at levels of so many, and renews all noise between them."""
    from diffusers.schedulers.scheduling_lcm import LCMScheduler

    return LCMScheduler(**_process(config), original_inference_steps=taught, set_alpha_to_one=True, steps_offset=1)


def flow_scheduler(*, shift: float, renews: bool = False) -> Any:
    """A FlowMatchEulerDiscreteScheduler. `renews`: from step to step it goes to the clean codes, and draws all noise anew."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=shift, stochastic_sampling=renews)


def ddim_scheduler(config: ProcessConfig, *, offset: int = 0) -> Any:
    """A DDIMScheduler that goes from the last step on, and to the image itself. `offset`: what its pipeline wants to be told,
    though steps that go from the last one on have none."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(**_process(config), set_alpha_to_one=True, timestep_spacing="trailing", steps_offset=offset)


def _process(config: ProcessConfig) -> dict[str, Any]:
    """The levels, and what is said of them, as diffusers' schedulers are told."""
    return {
        "num_train_timesteps": config.levels,
        "beta_start": config.betas_from or 0.1 / config.levels,
        "beta_end": config.betas_to or 20 / config.levels,
        "beta_schedule": {"cosine": "squaredcos_cap_v2"}.get(config.schedule, config.schedule),
        "prediction_type": {"v": "v_prediction", "x0": "sample"}.get(config.prediction, config.prediction),
        "clip_sample": config.clip,
        "rescale_betas_zero_snr": config.zero_snr,
    }
