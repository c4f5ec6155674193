"""The names of weights: those of diffusers' classes, in the family here that wraps them."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

V = TypeVar("V")
NETWORK, AUTOENCODER = "denoiser.net.", "autoencoder.net."  # in components/families/diffusion
PREFIXES = {"unet": NETWORK, "transformer": NETWORK, "vae": AUTOENCODER, "vqvae": AUTOENCODER}  # of the parts of a pipeline
NONE = "none"  # the part that holds what the encoder of a text makes of ""
STEERED = ("unet", "transformer")  # networks that may be
# Where a text steers it: families/diffusion/given_text.py.
BY_TEXT = PREFIXES | {part: f"{NETWORK}{part}." for part in STEERED} | {NONE: NETWORK}
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of attention, before diffusers 0.15


def renamed(named: Mapping[str, V]) -> dict[str, V]:
    """The same by the names that this version of diffusers has.

    >>> renamed({"mid_block.attentions.0.query.weight": 1})
    {'mid_block.attentions.0.to_q.weight': 1}
    """
    return {_renamed(name): value for name, value in named.items()}


def ours(names: Iterable[str], *, joined: bool) -> dict[str, str]:
    """The name here of each weight of one part, the network, or of a pipeline's, which begins with the name of its part.

    >>> ours(["conv_in.bias"], joined=False), ours(["vae.decoder.conv_in.bias"], joined=True)
    ({'conv_in.bias': 'denoiser.net.conv_in.bias'}, {'vae.decoder.conv_in.bias': 'autoencoder.net.decoder.conv_in.bias'})
    >>> ours(["unet.conv_in.bias", "none.none_LD"], joined=True)
    {'unet.conv_in.bias': 'denoiser.net.unet.conv_in.bias', 'none.none_LD': 'denoiser.net.none_LD'}
    """
    known = [*names]
    if not joined:
        return {name: NETWORK + name for name in known}
    prefixes = BY_TEXT if any(name.startswith(f"{NONE}.") for name in known) else PREFIXES
    parts = {name: name.partition(".") for name in known}
    return {name: prefixes[part] + own for name, (part, _, own) in parts.items()}


def _renamed(name: str) -> str:
    *before, last, kind = name.split(".") if "." in name else ["", name, ""]
    if "attentions" not in before or last not in RENAMED:
        return name
    return ".".join((*before, RENAMED[last], kind))
