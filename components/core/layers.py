"""The layers of a network that low-rank matrices may be laid beside (LoRA, Hu et al. 2021, arXiv:2106.09685)."""

from torch import nn

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


def _is_plain(layer: nn.Module) -> bool:
    if type(layer) not in KINDS or isinstance(layer, nn.Linear):
        return type(layer) in KINDS
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
