"""The names of weights: those of diffusers' UNet2DModel, in the family here that wraps it."""

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")
PREFIX = "denoiser.net."  # of the network in components/families/diffusion/ddpm.py
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of attention, before diffusers 0.15


def renamed(named: Mapping[str, V]) -> dict[str, V]:
    """The same by the names that this version of diffusers has.

    >>> renamed({"mid_block.attentions.0.query.weight": 1})
    {'mid_block.attentions.0.to_q.weight': 1}
    """
    return {_renamed(name): value for name, value in named.items()}


def _renamed(name: str) -> str:
    *before, last, kind = name.split(".") if "." in name else ["", name, ""]
    if "attentions" not in before or last not in RENAMED:
        return name
    return ".".join((*before, RENAMED[last], kind))
