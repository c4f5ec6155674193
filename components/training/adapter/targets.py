"""Which layers of a family an adapter is laid beside, and in which network peft sees them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from components.core.brief import LoraBrief
from components.core.errors import BriefError

if TYPE_CHECKING:
    from torch import nn

    from components.core.family import Family

WHOLE = "write override: {mode: finetune}"


def chosen_targets(family: "Family", lora: LoraBrief) -> tuple[str, ...]:
    """Names of the layers, in their order. Those that no rank was asked for by name and that it does not fit rest.

    Raises BriefError where there are none, and for what is named and is none or too small for the rank.
    """
    from components.core.layers import rank_bound

    name, known = f"{family.card.family}/{family.card.variant}", family.adaptable()
    if not known:
        raise BriefError(f"LoRA is not for {name}: it has no layers that an adapter can be laid beside", do=WHOLE)
    for target in lora.targets or ():
        if not any(_ends(layer, target) for layer in known):
            raise BriefError(f"pretrained.lora.targets: no layer of {name} is {target!r}", allowed=", ".join(_endings(known)))
    bounds = {layer: rank_bound(family.get_submodule(layer)) for layer in known}
    if lora.targets is None:
        fitting = tuple(layer for layer in known if lora.rank <= bounds[layer])
        if not fitting:
            raise BriefError(f"pretrained.lora.rank: {lora.rank} for {name}", allowed=f"1 to {max(bounds.values())}")
        return fitting
    chosen = tuple(layer for layer in known if any(_ends(layer, target) for target in lora.targets))
    smallest = min(chosen, key=lambda layer: bounds[layer])
    if lora.rank > bounds[smallest]:
        what = f"pretrained.lora.rank: {lora.rank} is more than the layer {smallest} of {name} can have"
        raise BriefError(what, allowed=f"1 to {bounds[smallest]}", do="lower it, or leave this layer out of targets")
    return chosen


def network_name(family: "Family") -> str:
    """The part of a family that holds all layers that may be adapted: names in an adapter's files are relative to it, so that
    another program which has this network alone can load them. Empty for the whole family."""
    layers = (name.partition(".base_layer")[0].partition(".lora_")[0] for name in family.adaptable())  # as before it was adapted
    parents = [layer.split(".")[:-1] for layer in layers]
    common: list[str] = []
    for parts in zip(*parents, strict=False):
        if len({*parts}) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def network_of(family: "Family") -> "nn.Module":
    """That part, as peft can take it: it asks a network's `config` for what only a dictionary has, so of a network whose config
    is something else it sees the children."""
    from torch import nn

    network = family.get_submodule(network_name(family))
    if hasattr(getattr(network, "config", {}), "get"):
        return network
    return nn.ModuleDict(dict(network.named_children()))


def _ends(layer: str, target: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _endings(layers: Iterable[str]) -> list[str]:
    """The last parts of names, each once: of 'to_out.0' both."""
    parts = [layer.split(".") for layer in layers]
    return sorted({".".join(each[-2:] if each[-1].isdigit() and len(each) > 1 else each[-1:]) for each in parts})
