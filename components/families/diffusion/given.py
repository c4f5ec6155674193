"""Networks that were made elsewhere, built from the configs that diffusers wrote of them: one kind for each of its classes.

    UNet2DModel              a U-Net, unconditional or by class
    UNet2DConditionModel     a U-Net, by text: Stable Diffusion's (Rombach et al. 2022, arXiv:2112.10752); given_text.py wraps it
    DiTTransformer2DModel    a transformer, by class (Peebles & Xie 2022, arXiv:2212.09748)
    AuraFlowTransformer2DModel    a transformer of image and text (Esser et al. 2024, arXiv:2403.03206), by text

Channels, classes and dropout are set by what a network is built for; everything else is as its config says. Of a config without a
`_class_name` the network is a UNet2DModel.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar

from torch import nn

from components.core.errors import BriefError
from components.core.records import EmbeddingCondition

BLOCKS = "block_out_channels"
MULTIPLE = 16  # of the width, so that narrower students can be made of a U-Net
U_NET, TRANSFORMER, TEXT_U_NET = "UNet2DModel", "DiTTransformer2DModel", "UNet2DConditionModel"
FLOW_TRANSFORMER = "AuraFlowTransformer2DModel"


class Kind(ABC):
    """How a class of diffusers is built here."""

    name: ClassVar[str]
    by_text: ClassVar[bool] = False

    @abstractmethod
    def check(self, network: Mapping[str, Any], *, width: int) -> None:
        """Raises ValueError for a config of which no network of this width can be made here."""

    @abstractmethod
    def divides(self, network: Mapping[str, Any]) -> int:
        """What the sides of its images are a multiple of."""

    @abstractmethod
    def arguments(self, network: Mapping[str, Any], *, ends: tuple[int, int], classes: int, width: int) -> dict[str, Any]:
        """What its class is told beside its own config."""

    @abstractmethod
    def model(self) -> Any:
        """The class."""

    def rows(self, network: Mapping[str, Any]) -> Any:
        """Of one that a text steers: numbers of a row of it."""
        raise AssertionError(f"no text steers a {self.name}")

    def asked_by(self, network: nn.Module, text: EmbeddingCondition) -> nn.Module:
        """Of one that a text steers: the network as it is called here."""
        raise AssertionError(f"no text steers a {self.name}")


class UNet(Kind):
    """`width` of another than its own makes all of it as much wider."""

    name = U_NET

    def check(self, network: Mapping[str, Any], *, width: int) -> None:
        # Of the rest nothing is known here: what a folder says beside it is no part of the network.
        needed = (BLOCKS, "down_block_types", "up_block_types")
        if lacking := [name for name in needed if not isinstance(network.get(name), list | tuple) or not network[name]]:
            raise ValueError(f"network: {lacking[0]} is missing; allowed: the config of a {self.name} as diffusers writes it")
        channels = network[BLOCKS]
        if not all(isinstance(each, int) and each > 0 for each in channels) or channels[0] % MULTIPLE:
            raise ValueError(f"network: {BLOCKS}: {list(channels)}; allowed: whole numbers, the first a multiple of {MULTIPLE}")
        if network.get("class_embed_type") is not None:
            raise ValueError(f"network: class_embed_type: {network['class_embed_type']}; allowed: none, with num_class_embeds")
        if network.get("time_embedding_type", "positional") != "positional":
            raise ValueError(f"network: time_embedding_type: {network['time_embedding_type']}; allowed: positional")

    def divides(self, network: Mapping[str, Any]) -> int:
        return int(2 ** (len(network[BLOCKS]) - 1))

    def arguments(self, network: Mapping[str, Any], *, ends: tuple[int, int], classes: int, width: int) -> dict[str, Any]:
        own = network[BLOCKS][0]
        wider = {} if width == own else _widened(network, width)
        return wider | {"in_channels": ends[0], "out_channels": ends[1], "num_class_embeds": classes or None}

    def model(self) -> Any:
        from diffusers.models.unets.unet_2d import UNet2DModel

        return UNet2DModel


class TextUNet(UNet):
    """A U-Net whose attention looks at the rows of a text, of one width at all its places; nothing else steers it."""

    name = TEXT_U_NET
    by_text = True

    def check(self, network: Mapping[str, Any], *, width: int) -> None:
        super().check(network, width=width)
        none = ("addition_embed_type", "encoder_hid_dim_type", "num_class_embeds", "time_cond_proj_dim")
        if odd := [key for key in none if network.get(key) is not None]:
            raise ValueError(f"network: {odd[0]}: {network[odd[0]]}; allowed: none, so that a text alone steers it")
        wide = network.get("cross_attention_dim", 1280)
        if not isinstance(wide, int):
            raise ValueError(f"network: cross_attention_dim: {wide}; allowed: one width")

    def rows(self, network: Mapping[str, Any]) -> Any:
        return network.get("cross_attention_dim", 1280)

    def arguments(self, network: Mapping[str, Any], *, ends: tuple[int, int], classes: int, width: int) -> dict[str, Any]:
        return super().arguments(network, ends=ends, classes=0, width=width)

    def model(self) -> Any:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return UNet2DConditionModel

    def asked_by(self, network: nn.Module, text: EmbeddingCondition) -> nn.Module:
        from components.families.diffusion.given_text import AskedByText

        return AskedByText(network, text)


class Transformer(Kind):
    """A label beyond its classes stands for none of them. It is as wide as its config says."""

    name = TRANSFORMER

    def check(self, network: Mapping[str, Any], *, width: int) -> None:
        heads, each = network.get("num_attention_heads", 16), network.get("attention_head_dim", 72)
        side, patch = network.get("sample_size", 32), network.get("patch_size", 2)
        odd = {
            "num_attention_heads x attention_head_dim": (heads * each, heads * each == width, f"{width}, its width"),
            "norm_type": (network.get("norm_type", "ada_norm_zero"), network.get("norm_type", "ada_norm_zero") == "ada_norm_zero",
                          "ada_norm_zero: by class"),
            "patch_size": (patch, patch > 0 and side % patch == 0, f"a divisor of its sample_size, {side}"),
        }  # fmt: skip
        for key, (given, fits, allowed) in odd.items():
            if not fits:
                raise ValueError(f"network: {key}: {given}; allowed: {allowed}")

    def divides(self, network: Mapping[str, Any]) -> int:
        return int(network.get("patch_size", 2))

    def arguments(self, network: Mapping[str, Any], *, ends: tuple[int, int], classes: int, width: int) -> dict[str, Any]:
        return {"in_channels": ends[0], "out_channels": ends[1], "num_embeds_ada_norm": labels_of(classes)}

    def model(self) -> Any:
        from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

        return DiTTransformer2DModel


class FlowTransformer(Kind):
    """`width` of another than its own is another number of heads."""

    name = FLOW_TRANSFORMER
    by_text = True

    def check(self, network: Mapping[str, Any], *, width: int) -> None:
        heads, each = network.get("num_attention_heads", 12), network.get("attention_head_dim", 256)
        side, patch = network.get("sample_size", 64), network.get("patch_size", 2)
        wide = network.get("caption_projection_dim", 3072)
        odd = {
            "attention_head_dim": (each, each > 0 and width % each == 0, f"a divisor of {width}, its width"),
            "caption_projection_dim": (wide, wide == heads * each, f"{heads * each}, its width"),
            "patch_size": (patch, patch > 0 and side % patch == 0, f"a divisor of its sample_size, {side}"),
        }
        for key, (given, fits, allowed) in odd.items():
            if not fits:
                raise ValueError(f"network: {key}: {given}; allowed: {allowed}")

    def divides(self, network: Mapping[str, Any]) -> int:
        return int(network.get("patch_size", 2))

    def rows(self, network: Mapping[str, Any]) -> Any:
        return network.get("joint_attention_dim", 2048)

    def arguments(self, network: Mapping[str, Any], *, ends: tuple[int, int], classes: int, width: int) -> dict[str, Any]:
        heads = width // network.get("attention_head_dim", 256)
        return {"in_channels": ends[0], "out_channels": ends[1], "num_attention_heads": heads, "caption_projection_dim": width}

    def model(self) -> Any:
        from diffusers.models.transformers.auraflow_transformer_2d import AuraFlowTransformer2DModel

        return AuraFlowTransformer2DModel

    def asked_by(self, network: nn.Module, text: EmbeddingCondition) -> nn.Module:
        from components.families.diffusion.given_text import FlowByText

        return FlowByText(network, text)


KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (UNet(), TextUNet(), Transformer(), FlowTransformer())}


def kind_of(network: Mapping[str, Any]) -> Kind:
    """Raises ValueError for a class that is none of these."""
    name = network.get("_class_name", U_NET)
    if name not in KINDS:
        raise ValueError(f"network: _class_name: {name}; allowed: {', '.join(KINDS)}")
    return KINDS[name]


def check_given(network: Mapping[str, Any], *, width: int) -> None:
    """Raises ValueError for a config of which no network can be made here."""
    kind_of(network).check(network, width=width)


def given_divides(network: Mapping[str, Any]) -> int:
    """What the sides of its images are a multiple of."""
    return kind_of(network).divides(network)


def given_network(
    network: Mapping[str, Any],
    *,
    ends: tuple[int, int],
    classes: int,
    width: int,
    dropout: float,
    text: EmbeddingCondition | None = None,
) -> nn.Module:
    """The network of a config, from and to so many channels. Raises BriefError for a config that diffusers refuses, and where it
    is asked for something else than what steers it."""
    kind = kind_of(network)
    own = kind.arguments(network, ends=ends, classes=classes, width=width)
    if kind.by_text is not (text is not None):
        asked = "a text" if kind.by_text else "a class, or nothing"
        raise BriefError(f"network: a {kind.name} is asked by {asked}", do="ask by what it was trained with")
    if text is None:
        return ready(built(kind.model(), network, **own, dropout=dropout))
    if (wide := kind.rows(network)) != text.features:
        what = f"network: it takes {wide} numbers of a token, and {text.encoder} makes {text.features}"
        raise BriefError(what, do="take both from one training")
    dropped = {} if kind.name == FLOW_TRANSFORMER else {"dropout": dropout}
    return kind.asked_by(built(kind.model(), network, **own, **dropped), text)


def ready(network: nn.Module) -> nn.Module:
    """The same, its labels as given: diffusers' transformer hides some by torch's own generator, in each block others."""
    from diffusers.models.embeddings import LabelEmbedding

    for module in network.modules():
        if isinstance(module, LabelEmbedding):
            module.dropout_prob = 0.0
    return network


def labels_of(classes: int) -> int:
    """How many labels a transformer is made for, beside that of none: without classes it is asked for the only one."""
    return max(1, classes)


def built(model: Any, config: Mapping[str, Any], **own: Any) -> nn.Module:
    """A class of diffusers with what of a config it takes, and `own`. Raises BriefError for a config that it refuses."""
    takes = inspect.signature(model.__init__).parameters
    told = {name: value for name, value in config.items() if name in takes} | own
    try:
        made: nn.Module = model.from_config(told)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, NotImplementedError) as error:
        first = str(error).strip().split("\n")[0]
        raise BriefError(f"network: diffusers cannot make a {model.__name__} of it: {first}") from error
    return made


def _widened(network: Mapping[str, Any], width: int) -> dict[str, Any]:
    """The same with another width: groups of norms divide all widths."""
    own = network[BLOCKS][0]
    channels = [each * width // own for each in network[BLOCKS]]
    return {BLOCKS: channels, "norm_num_groups": gcd(*channels, network.get("norm_num_groups") or MULTIPLE)}
