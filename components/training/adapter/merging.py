"""Lay an adapter beside a family, and merge it: what is kept, proved, exported and served has the plain layers again.

Merging that has no effect, or another one than the adapter had, is what users of other tools met only in their images. So it is
measured each time: each merged layer on random inputs, and images on the same noise, on the CPU.

B batch.
"""

import copy
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from components.core.brief import LoraBrief
from components.core.errors import BriefError, RunError
from components.core.family import Family
from components.core.noise import draw
from components.training.adapter.targets import chosen_targets, network_name, network_of

if TYPE_CHECKING:
    from peft import LoraConfig

NAME = "default"  # peft's own, of the only adapter there is
LAYER_TOLERANCE = 1e-5  # of a layer's outputs on normal inputs, absolute where they are below 1
IMAGE_TOLERANCE = 1e-3  # mean over images in [-1, 1]: many layers and steps add up what each rounds
DISCRETE_TOLERANCE = 0.05  # the same where a value is drawn from categories: a last bit may choose another
IMAGES, STEPS = 2, 2


def adapt(family: Family, lora: LoraBrief, *, base_sha256: str, seed: int) -> Family:
    """Lay new matrices beside the family's layers; all else rests but what learns beside them. Its images stay the same bits
    (with DoRA nearly): B is zero. Raises BriefError where the layers cannot have it."""
    targets = chosen_targets(family, lora)
    if lora.dora:
        _check_lengths(family, targets)
    torch.manual_seed(seed)
    family.requires_grad_(requires_grad=False)
    inject(family, lora_config(family, lora, base_sha256=base_sha256))
    found = tuple(name for name, _ in lora_layers(family))
    assert set(found) == set(targets), f"peft adapted {found}"
    for parameter in family.beside_adapter():
        parameter.requires_grad_()
    return family


def lora_config(family: Family, lora: LoraBrief, *, base_sha256: str) -> "LoraConfig":
    """peft's own record of it, of a family that has plain layers. The base is named by the digest of its weights."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.rank if lora.alpha is None else lora.alpha,  # type: ignore[arg-type] # a scale need not be whole
        target_modules=named_targets(family, chosen_targets(family, lora)),
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        base_model_name_or_path=f"sha256:{base_sha256}",
    )


def named_targets(family: Family, targets: tuple[str, ...]) -> list[str] | str:
    """The targets by their names in the network. peft takes a name for the end of one, too: where that would catch another
    layer, it gets one expression for whole names."""
    root = f"{network_name(family)}." if network_name(family) else ""
    own = [name.removeprefix(root) for name in targets]
    others = {name for name, _ in network_of(family).named_modules()}.difference(own)
    ends = tuple(f".{name}" for name in own)
    return "|".join(map(re.escape, own)) if any(name.endswith(ends) for name in others) else own


def inject(family: Family, config: "LoraConfig") -> None:
    """peft's layers in the place of the targets."""
    from peft import inject_adapter_in_model

    network, seen = family.get_submodule(network_name(family)), network_of(family)
    inject_adapter_in_model(config, seen, adapter_name=NAME)
    if seen is not network:
        for name, child in seen.named_children():
            setattr(network, name, child)


def lora_layers(family: nn.Module) -> Iterator[tuple[str, Any]]:
    """The adapted layers, peft's LoraLayer, by their names."""
    from peft.tuners.lora import LoraLayer

    return ((name, layer) for name, layer in family.named_modules() if isinstance(layer, LoraLayer))


def merged(adapted: Family) -> Family:
    """A copy of an adapted family with plain layers, their weights W + s B A. Raises RunError where they are not finite."""
    plain = copy.deepcopy(adapted)
    for name, layer in [*lora_layers(plain)]:
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:
            raise RunError(f"the adapter of {name} cannot be merged: {error}", do="lower override.config.lr_peak") from error
        parent, _, last = name.rpartition(".")
        setattr(plain.get_submodule(parent), last, layer.get_base_layer())
    for module in plain.modules():
        vars(module).pop("peft_config", None)
    return plain.requires_grad_(requires_grad=False)


@torch.no_grad()
def check_merged(adapted: Family, plain: Family) -> tuple[float, float]:
    """The largest difference of a layer, and the mean one of images. Both families on the CPU, in evaluation mode.

    Raises RunError where the merged family is not what the adapted one is.
    """
    worst = max((_difference(layer, plain.get_submodule(name)), name) for name, layer in lora_layers(adapted))
    if not worst[0] <= LAYER_TOLERANCE:
        raise _not_merged(f"the layer {worst[1]} by {worst[0]:.2g} of its outputs", LAYER_TOLERANCE)
    apart, tolerance = images_apart(adapted, plain), image_tolerance(adapted)
    if not apart <= tolerance:
        raise _not_merged(f"images in [-1, 1] by {apart:.2g} on average", tolerance)
    return worst[0], apart


def images_apart(one: Family, other: Family) -> float:
    """How far what they draw from the same noise differs, on average, beside what they draw where that is large."""
    x, y = images(one), images(other)
    return float((x - y).abs().mean() / x.abs().mean().clamp(min=1))


def image_tolerance(family: Family) -> float:
    """How far that may be where both compute the same in another order, as merged and adapted layers do."""
    return DISCRETE_TOLERANCE if family.discrete else IMAGE_TOLERANCE


@torch.no_grad()
def images(family: Family) -> Tensor:
    """What it draws from fixed noise in few steps, x [IMAGES, *item]."""
    sampler, spec = family.sampler(steps=STEPS).eval(), family.spec
    inputs = [torch.from_numpy(value) for value in draw(family.noise_inputs(), range(IMAGES)).values()]
    if spec.condition is not None:
        inputs.append(torch.from_numpy(spec.condition.examples(IMAGES)))  # of a text zeros would leave its layers unasked
    x: Tensor = sampler(*inputs)
    return x.float()


def _difference(layer: nn.Module, plain: nn.Module) -> float:
    """max |adapted(x) - merged(x)| / max(1, max |adapted(x)|) on normal x."""
    weight = plain.get_parameter("weight")
    sides = [max(8, side) for side in weight.shape[2:]]
    x = torch.randn((4, weight.shape[1], *sides), generator=torch.Generator().manual_seed(0))
    one, two = layer(x), plain(x)
    return float((one - two).abs().max() / one.abs().max().clamp(min=1))


def _not_merged(what: str, tolerance: float) -> RunError:
    return RunError(f"the merged weights are not those of the adapter: they change {what}", allowed=f"{tolerance:g}")


def _check_lengths(family: Family, targets: tuple[str, ...]) -> None:
    """DoRA divides by the length of each output's weights."""
    for name in targets:
        if not bool(family.get_submodule(name).get_parameter("weight").flatten(1).norm(dim=1).all()):
            what = f"pretrained.lora.dora: true, and weights of the layer {name} of the base are all zero: they have no direction"
            raise BriefError(what, do="leave dora out, or this layer out of pretrained.lora.targets")
