"""What is found in a network by its structure: the layers that low-rank matrices may be laid beside (LoRA, Hu et al. 2021,
arXiv:2106.09685), and the blocks whose activations may be computed again (Chen et al. 2016, arXiv:1604.06174)."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import is_parametrized

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def plain_layers(network: nn.Module, *, within: str = "") -> tuple[str, ...]:
    """Names of the linear and convolutional layers in the part of a network named `within`, in their order.

    Only those of torch's own classes with a weight that is used as it is: beside a masked, normalised, grouped, dilated or
    otherwise padded one the matrices would compute something else than what is merged.
    """
    inside = f"{within}." if within else ""
    return tuple(name for name, layer in network.named_modules() if name.startswith(inside) and _is_plain(layer))


def rank_bound(layer: nn.Module) -> int:
    """The largest rank that a change of the layer's weight can have: of a convolution the weight is [out, in x places]."""
    weight = layer.get_parameter("weight")
    return min(weight.shape[0], weight[0].numel())


def effective_weight(layer: Any) -> Tensor:
    """What a linear or convolutional layer multiplies by: its weight W, and where peft laid a LoRA beside it W + s B A, of DoRA
    brought to its lengths. Gradients reach the matrices; dropout has no part in it."""
    weight: Tensor = getattr(layer, "base_layer", layer).weight
    for name in getattr(layer, "active_adapters", ()):
        weight = weight + layer.get_delta_weight(name)
        if name in layer.lora_magnitude_vector:
            length = layer.lora_magnitude_vector[name].weight.flatten() / weight.detach().flatten(1).norm(dim=1)
            weight = weight * length.view(-1, *[1] * (weight.dim() - 1))
    return weight


def repeatable_blocks(network: nn.Module) -> tuple[nn.Module, ...]:
    """The blocks of a network that may be computed twice in a step: no two of them overlap.

    A block is what a list or a sequence of modules holds, the innermost ones of several layers with weights: of a U-Net its
    residual blocks and attentions. One that another pass would change is none: batch normalisation would count a batch twice, and
    a power iteration would go on.
    """
    return tuple(block for block in _innermost(network) if not any(map(_changes, block.modules())))


def _innermost(module: nn.Module) -> list[nn.Module]:
    """Modules with an adapter beside them are layers."""
    found: list[nn.Module] = []
    for child in module.children():
        inner = [] if hasattr(child, "base_layer") else _innermost(child)
        listed = isinstance(module, nn.Sequential | nn.ModuleList) and not hasattr(child, "base_layer")
        found += inner or ([child] if listed and _has_layers(child) else [])
    return found


def _has_layers(module: nn.Module) -> bool:
    """Whether two modules in it, or more, have weights."""
    return sum(any(True for _ in each.parameters(recurse=False)) for each in module.modules()) > 1


def _changes(module: nn.Module) -> bool:
    """Whether it changes as it computes."""
    return is_parametrized(module) or (isinstance(module, _NormBase) and module.track_running_stats)


def _is_plain(layer: nn.Module) -> bool:
    if type(layer) not in KINDS or isinstance(layer, nn.Linear):
        return type(layer) in KINDS
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
