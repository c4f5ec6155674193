"""Networks that come from diffusers, or go there.

One that was made elsewhere is diffusers' UNet2DModel, built from the config that its folder holds.

Its channels, classes and width are set by what it is built for; everything else is as the config says.
"""

from collections.abc import Mapping
from math import gcd
from typing import Any, Protocol

from torch import nn

from components.core.errors import BriefError
from components.core.records import DataSpec
from components.families.diffusion.process import Schedule
from components.families.images import image_of

BLOCKS = "block_out_channels"
MULTIPLE = 16  # of the width, so that narrower students can be made of it
# Of the rest nothing is known here: what a folder says beside it, as _class_name, is no part of the network.
NEEDED = (BLOCKS, "down_block_types", "up_block_types")


def check_given(network: Mapping[str, Any]) -> None:
    """Raises ValueError for a config of which no network can be made here."""
    lacking = [name for name in NEEDED if not isinstance(network.get(name), list | tuple) or not network[name]]
    if lacking:
        raise ValueError(f"network: {lacking[0]} is missing; allowed: the config of a UNet2DModel as diffusers writes it")
    channels = network[BLOCKS]
    if not all(isinstance(each, int) and each > 0 for each in channels) or channels[0] % MULTIPLE:
        raise ValueError(f"network: {BLOCKS}: {list(channels)}; allowed: whole numbers, the first a multiple of {MULTIPLE}")
    if network.get("class_embed_type") is not None:
        raise ValueError(f"network: class_embed_type: {network['class_embed_type']}; allowed: none, with num_class_embeds")
    if network.get("time_embedding_type", "positional") != "positional":
        raise ValueError(f"network: time_embedding_type: {network['time_embedding_type']}; allowed: positional")


def halvings(network: Mapping[str, Any]) -> int:
    """How often it halves an image's sides."""
    return len(network[BLOCKS]) - 1


def given_network(network: Mapping[str, Any], *, ends: tuple[int, int], classes: int, width: int, dropout: float) -> nn.Module:
    """The UNet2DModel of a config, from and to so many channels. `width` of another than its own makes all of it as much wider.

    Raises BriefError for a config that diffusers refuses.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel

    told = {name: value for name, value in network.items() if not name.startswith("_")}
    own = told[BLOCKS][0]
    if width != own:
        told |= _widened(told, width)
    told |= {"in_channels": ends[0], "out_channels": ends[1], "num_class_embeds": classes or None, "dropout": dropout}
    try:
        made: nn.Module = UNet2DModel.from_config(told)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BriefError(f"network: diffusers cannot make a UNet2DModel of it: {error}") from error
    return made


def _widened(network: Mapping[str, Any], width: int) -> dict[str, Any]:
    """The same with another width: groups of norms divide all widths."""
    own = network[BLOCKS]
    channels = [each * width // own[0] for each in own]
    return {BLOCKS: channels, "norm_num_groups": gcd(*channels, network.get("norm_num_groups") or MULTIPLE)}


class ProcessConfig(Protocol):
    """What a scheduler of diffusers is told: DDPMConfig."""

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


def as_pipeline(network: nn.Module, config: ProcessConfig, spec: DataSpec) -> Any:
    """diffusers' DDIMPipeline of a UNet2DModel, with the scheduler that draws as the sampler here does: from the last
    step on, and to the image itself. The images are the same with `use_clipped_model_output=True`, as here the noise follows from
    the bounded image, too."""
    from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    ends = (config.betas_from or 0.1 / config.levels, config.betas_to or 20 / config.levels)
    scheduler = DDIMScheduler(
        num_train_timesteps=config.levels,
        beta_start=ends[0],
        beta_end=ends[1],
        beta_schedule={"cosine": "squaredcos_cap_v2"}.get(config.schedule, config.schedule),
        prediction_type={"v": "v_prediction", "x0": "sample"}.get(config.prediction, config.prediction),
        clip_sample=config.clip,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=config.zero_snr,
    )
    image = image_of(spec)
    side = image.height if image.height == image.width else [image.height, image.width]
    network.register_to_config(sample_size=side)  # type: ignore[operator]
    return DDIMPipeline(unet=network, scheduler=scheduler)
