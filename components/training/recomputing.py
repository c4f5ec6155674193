"""Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): of some blocks only the inputs are kept for the backward pass,
which computes what is inside them again, one block at a time.

Less memory, a second forward pass, the same numbers: random ones, as of dropout, are drawn again from the same state. Blocks
whose inputs need no gradient, as those of a base at rest beneath an adapter, are recomputed like others.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(blocks: Iterable[nn.Module]) -> None:
    """From now on keep of these blocks nothing but their inputs. Names, weights and states stay as they are."""
    for block in blocks:
        if "forward" not in vars(block):
            vars(block)["forward"] = partial(_recomputed, block.forward)


def keep_again(blocks: Iterable[nn.Module]) -> None:
    """The inverse."""
    for block in blocks:
        vars(block).pop("forward", None)


@contextmanager
def recomputing(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """The same within a block of code."""
    blocks = tuple(blocks)
    recompute(blocks)
    try:
        yield
    finally:
        keep_again(blocks)


def _recomputed(forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **named)
    return checkpoint(forward, *args, use_reentrant=False, **named)
