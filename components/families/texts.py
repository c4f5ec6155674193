"""Texts as networks meet them: the rows of their tokens, float32 [B, L, D], those after the last token zero (core's
EmbeddingCondition). A text of zeros alone asks for nothing in particular.

B batch, L rows, D features of a row.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from components.core.errors import BriefError
from components.core.records import DataSpec, EmbeddingCondition

TEXT_GUIDANCE = 3.0  # weight by default: docs/decisions/0043-texts-in-networks.md


def text_of(spec: DataSpec) -> EmbeddingCondition | None:
    """What the items are asked for by, where that is a text."""
    return spec.condition if isinstance(spec.condition, EmbeddingCondition) else None


def check_told(spec: DataSpec, *, guidance: float) -> None:
    """Raises BriefError where a model shall be told what is unwanted, and has no guidance to steer away from it."""
    if (text := text_of(spec)) and text.negative and guidance == 1:
        raise BriefError("override.config.guidance: 1 for a model that is told what is unwanted", allowed="more than 1")


def apart(condition: Tensor) -> tuple[Tensor, ...]:
    """What is wanted, and where a sampler was told so what is not: of text_B2LD both, of anything else itself alone."""
    return condition.unbind(1) if condition.ndim == 4 else (condition,)


def with_start(text_BLD: Tensor, start_D: Tensor) -> tuple[Tensor, Tensor]:
    """Rows_B(1+L)D, and float32 [B, 1 + L] of 1 for each that is known: `start_D` first, which always is, then those of the
    text."""
    start_B1D = start_D.expand(text_BLD.shape[0], 1, -1)
    return torch.cat([start_B1D, _standardised(text_BLD)], dim=1), F.pad(_known(text_BLD), (1, 0), value=1.0)


def mean_row(text_BLD: Tensor) -> Tensor:
    """mean_BD over the rows that are known; of none zeros."""
    known_BL = _known(text_BLD)
    share_BL = known_BL / known_BL.sum(1, keepdim=True).clamp(min=1)
    return (_standardised(text_BLD) * share_BL[:, :, None]).sum(1)


def hide(condition: Tensor, hidden_B: Tensor, *, none: int) -> Tensor:
    """The same, of those that are hidden nothing in particular: of a class the number `none`, of a text zeros."""
    return condition.masked_fill(hidden_B.view(-1, *[1] * (condition.ndim - 1)), 0 if condition.ndim > 1 else none)


def _known(text_BLD: Tensor) -> Tensor:
    return (text_BLD != 0).any(2).to(text_BLD.dtype)


def _standardised(text_BLD: Tensor) -> Tensor:
    """Each row of mean 0 and deviation 1, for encoders differ tenfold in their scale; zeros stay zeros."""
    return F.layer_norm(text_BLD, text_BLD.shape[2:])
