"""The names of weights: those of diffusers' classes, in the family here that wraps them."""

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")
NETWORK, AUTOENCODER = "denoiser.net.", "autoencoder.net."  # in components/families/diffusion
PREFIXES = {"unet": NETWORK, "transformer": NETWORK, "vae": AUTOENCODER, "vqvae": AUTOENCODER}  # of the parts of a pipeline
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of attention, before diffusers 0.15


def renamed(named: Mapping[str, V]) -> dict[str, V]:
    """The same by the names that this version of diffusers has.

    >>> renamed({"mid_block.attentions.0.query.weight": 1})
    {'mid_block.attentions.0.to_q.weight': 1}
    """
    return {_renamed(name): value for name, value in named.items()}


def ours(name: str, *, joined: bool) -> str:
    """The name here of a weight of one part, the network, or of a pipeline's, which begins with the name of its part.

    >>> ours("conv_in.bias", joined=False), ours("vae.decoder.conv_in.bias", joined=True)
    ('denoiser.net.conv_in.bias', 'autoencoder.net.decoder.conv_in.bias')
    """
    if not joined:
        return NETWORK + name
    part, _, own = name.partition(".")
    return PREFIXES[part] + own


def _renamed(name: str) -> str:
    *before, last, kind = name.split(".") if "." in name else ["", name, ""]
    if "attentions" not in before or last not in RENAMED:
        return name
    return ".".join((*before, RENAMED[last], kind))
