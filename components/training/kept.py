"""What is kept of a model at a reading. Imports torch only for its types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kept:
    """A whole model's weights, and files of other programs beside them, by their names."""

    weights: "dict[str, Tensor]"
    files: Mapping[str, bytes] = field(default_factory=dict)
