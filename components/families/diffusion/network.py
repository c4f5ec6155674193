"""The network of every diffusion model here: diffusers' UNet2DModel for any side, with classes that can be hidden, the U-Net that
attends to a text (text_unet.py), or linear layers where an item has few values (dense.py).

Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6) for a denoiser D, with the weight w of Imagen:

    D_w(x; t, c) = D(x; t, none) + w (D(x; t, c) - D(x; t, none)),   w = 1: no guidance, and one evaluation rather than two

Where a sampler is told what its items shall be unlike, that stands in the place of none (a negative prompt).

B batch, C channels, H height, W width, P extra input planes, L rows of a text, D features of a row.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.core.imports import hidden
from components.core.randomness import uniform
from components.core.records import DataSpec
from components.families.dense import DenseConfig, if_few
from components.families.diffusion.dense import DenseDenoiser
from components.families.diffusion.text_unet import text_unet
from components.families.images import image_of, side_of
from components.families.texts import TEXT_GUIDANCE, apart, check_told, hide, text_of


class DiffusionConfig(DenseConfig):
    """What all diffusion models have: a network, a number of steps, guidance."""

    lr_peak: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 0.0
    warmup_steps: int = 100
    ema_decay: float = 0.998
    width: int = Field(
        default=64, ge=16, multiple_of=16, description="channels at full resolution; 32 up to side 16 and on a CPU"
    )
    widths: tuple[int, ...] = Field(default=(1, 2), min_length=1, description="multiples of `width`, one for each halving")
    patch: int = Field(
        default=1, ge=1, le=8, description="pixels a side that the network takes as one place; 2 above side 16 on a CPU"
    )
    blocks: int = Field(default=1, ge=1, description="residual blocks at each resolution")
    attention: bool = Field(default=True, description="self-attention at the lowest resolution")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="0.13 in EDM's long runs on CIFAR-10")
    guidance: float = Field(
        default=1.0, ge=0, description="weight of class or text in sampling; 1 is off and costs nothing; 3 for texts"
    )
    label_dropout: float = Field(
        default=0.1, gt=0, lt=1, description="share of labels hidden in training when guidance is on; of texts always"
    )
    steps: int = Field(default=18, ge=1)

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """Small images, a narrow network.

        Squares of pixels as channels (sec. 3.2 of arXiv:2301.11093) make a network of few places, which is quick.
        """
        side = side_of(spec)
        patch = {"patch": 2} if light and side > 16 else {}
        narrow = {"width": 32, "lr_peak": 2e-3, "batch_size": 32} if light or side <= 16 else {}
        steered = {"guidance": TEXT_GUIDANCE} if text_of(spec) else {}
        return patch | narrow | steered | if_few(spec, width=128, blocks=3, lr_peak=2e-3)

    @property
    def divides(self) -> int:
        """What the network's sides are a multiple of: halvings of squares of pixels."""
        return 1 if self.dense else self.patch * 2 ** (len(self.widths) - 1)

    def padding(self, height: int, width: int) -> tuple[int, int]:
        """Rows below and columns to the right that the network sees besides."""
        return -height % self.divides, -width % self.divides


class Network(nn.Module):
    """The U-Net, or linear layers where values are few, for denoisers to derive from.

    `planes` extra channels join the input; where none are given they are zero. It gives `answers` numbers for each value of the
    image, as so many blocks of channels. Raises BriefError where it is told what is unwanted and has no guidance.
    """

    def __init__(self, config: DiffusionConfig, spec: DataSpec, *, planes: int = 0, answers: int = 1) -> None:
        super().__init__()
        self.planes = planes
        self.classes = len(spec.classes)
        self.conditional = spec.conditional
        self.guided = spec.conditional and config.guidance != 1  # class number `classes` is then none of them
        self.hides = self.guided or text_of(spec) is not None  # a text may be empty, whatever the guidance
        check_told(spec, guidance=config.guidance)
        self.label_dropout = config.label_dropout
        self.patch = 1 if config.dense else config.patch  # linear layers see the item as it is
        self.pad = config.padding(image_of(spec).height, image_of(spec).width)
        ends = (image_of(spec).channels + planes, answers * image_of(spec).channels)
        kinds = self.classes + self.guided if self.classes else 0
        self.net = self._made(config, spec, ends, classes=kinds)

    def _made(self, config: DiffusionConfig, spec: DataSpec, ends: tuple[int, int], *, classes: int) -> nn.Module:
        """From so many channels to so many."""
        return (_linear if config.dense else _convolutional)(config, spec, ends, classes=classes)

    def network(self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor | None, planes_BPHW: Tensor | None) -> Tensor:
        """x_BCHW, time (about 0 to 1,000 in size), class or text_BLD, planes -> out_BCHW: padded for the halvings, and back."""
        h, w = x_BCHW.shape[2:]
        if self.planes:
            if planes_BPHW is None:
                planes_BPHW = torch.zeros_like(x_BCHW[:, :1]).expand(-1, self.planes, -1, -1)
            x_BCHW = torch.cat([x_BCHW, planes_BPHW], dim=1)
        if any(self.pad):
            x_BCHW = nn.functional.pad(x_BCHW, (0, self.pad[1], 0, self.pad[0]))
        if self.patch > 1:
            x_BCHW = nn.functional.pixel_unshuffle(x_BCHW, self.patch)
        out = self.said(x_BCHW, time_B, condition_B)
        if self.patch > 1:
            out = nn.functional.pixel_shuffle(out, self.patch)
        return out[:, :, :h, :w]

    def said(self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor | None) -> Tensor:
        """What the network itself gives."""
        out: Tensor = self.net(x_BCHW, time_B, class_labels=condition_B, return_dict=False)[0]
        return out

    def training_labels(self, labels_B: Tensor | None, rng: torch.Generator) -> Tensor | None:
        """What to train on, of labels_B or texts_BLD: none where nothing is asked for; with guidance a share of them hidden
        (algorithm 1)."""
        if not self.conditional or labels_B is None:
            return None
        asked = apart(labels_B)[0]
        return hide(asked, uniform(asked.shape[:1], rng) < self.label_dropout, none=self.classes) if self.hides else asked


def _convolutional(config: DiffusionConfig, spec: DataSpec, ends: tuple[int, int], *, classes: int) -> nn.Module:
    """diffusers' U-Net from so many channels to so many."""
    if (text := text_of(spec)) is not None:
        return _almost_zero(text_unet(config, ends, features=text.features), "unet.conv_out")
    with hidden("accelerate", "peft", "transformers"):  # a third of diffusers' import, for what this network has not
        from diffusers.models.unets.unet_2d import UNet2DModel

    levels = len(config.widths)
    down, up = ["DownBlock2D"] * levels, ["UpBlock2D"] * levels
    if config.attention and levels > 1:
        down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
    net: nn.Module = UNet2DModel(
        sample_size=None,
        in_channels=ends[0] * config.patch**2,
        out_channels=ends[1] * config.patch**2,
        block_out_channels=tuple(config.width * multiple for multiple in config.widths),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        layers_per_block=config.blocks,
        # Four channels a group or more: one of a single channel would subtract the very time and class that were added.
        norm_num_groups=min(32, config.width // 4),
        dropout=config.dropout,
        attention_head_dim=min(32, config.width),
        add_attention=config.attention,
        num_class_embeds=classes or None,
    )
    return _almost_zero(net, "conv_out")


def _almost_zero(net: nn.Module, last: str) -> nn.Module:
    """The same, whose last layer gives almost zero: the layers before it learn from the first step."""
    nn.init.normal_(net.get_parameter(f"{last}.weight"), std=1e-4)
    nn.init.zeros_(net.get_parameter(f"{last}.bias"))
    return net


def _linear(config: DiffusionConfig, spec: DataSpec, ends: tuple[int, int], *, classes: int) -> nn.Module:
    """The same of linear layers."""
    text = text_of(spec)
    shape_in, shape_out = ((channels, *spec.shape[1:]) for channels in ends)
    sizes = {"width": config.width, "blocks": config.blocks, "classes": classes, "features": text.features if text else 0}
    return DenseDenoiser(shape_in, shape_out, dropout=config.dropout, **sizes)


def blocks(answers: Tensor, *, like: Tensor) -> list[Tensor]:
    """What a network says, divided into blocks of as many channels as the image has; a single one needs no operator."""
    channels = like.shape[1]
    if answers.shape[1] == channels:
        return [answers]
    return [answers[:, at : at + channels] for at in range(0, answers.shape[1], channels)]


class Guided(nn.Module):
    """A denoiser under guidance: both evaluations in one pass of twice the batch, so that a graph holds one network. What the
    denoiser says beside the image is said with the class."""

    def __init__(self, denoiser: nn.Module, *, weight: float, none: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.weight = weight
        self.none = none

    def forward(self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor, planes_BPHW: Tensor | None = None) -> Tensor:
        n = x_BCHW.shape[0]
        wanted_B, *unwanted = apart(condition_B)
        asked = torch.cat([wanted_B, unwanted[0] if unwanted else torch.full_like(wanted_B, self.none)])
        planes = None if planes_BPHW is None else torch.cat([planes_BPHW, planes_BPHW])
        both: Tensor = self.denoiser(torch.cat([x_BCHW, x_BCHW]), torch.cat([time_B, time_B]), asked, planes)
        (own, *beside), (none, *_) = blocks(both[:n], like=x_BCHW), blocks(both[n:], like=x_BCHW)
        steered = none + self.weight * (own - none)
        return torch.cat([steered, *beside], dim=1) if beside else steered


def guided(denoiser: Network, config: DiffusionConfig, *, of: nn.Module | None = None) -> nn.Module:
    """The denoiser as the sampler should use it: itself where guidance is off. `of`: a module that calls it, in its place."""
    called = denoiser if of is None else of
    return Guided(called, weight=config.guidance, none=denoiser.classes) if denoiser.guided else called
