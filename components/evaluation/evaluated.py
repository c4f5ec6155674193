"""One artifact under evaluation: its samples, what they are measured against, and all else that a metric may ask for.

N generated items, D features, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.protocols import ItemSampler
from components.core.records import Condition
from components.evaluation.bootstrap import Bootstrap
from components.evaluation.samples import Drawn
from components.evaluation.yardstick import Yardstick

if TYPE_CHECKING:
    from components.core.family import Family

Subject = TypeVar("Subject")
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a metric's `compute` is given. What is None is not to be had, and a metric that needs it does not apply.

    `champion`: the artifact that it is measured beside, on the same yardstick. `sampler`: the artifact, for further samples, and
    the `condition` that it is asked by. `timed`: the same artifact with batches of one. `model`: the model itself, for what only
    it can tell, on `device`.
    """

    drawn: Drawn
    yardstick: Yardstick
    champion: "Evaluated | None" = None
    sampler: ItemSampler | None = None
    condition: Condition | None = None
    timed: ItemSampler | None = None
    model: "Family | None" = None
    device: str = "cpu"

    @property
    def items(self) -> Stored:
        """The samples, as they are stored: [N, ...]."""
        return self.drawn.images

    @property
    def boot(self) -> Bootstrap:
        """What intervals are made by."""
        return self.yardstick.real.boot

    @cached_property
    def features(self) -> npt.NDArray[np.floating]:
        """The extractor's features of the samples: [N, D]."""
        return self.yardstick.real.extractor.features(self.items)

    @cached_property
    def probabilities(self) -> npt.NDArray[np.floating] | None:
        """What the extractor takes the samples for: [N, K]; None where it knows no classes."""
        return self.yardstick.real.extractor.probabilities(self.items)


def once(function: Callable[[Subject], Found]) -> Callable[[Subject], Found]:
    """Computed once for each Evaluated or Yardstick, however many metrics ask for it; forgotten with it."""

    @wraps(function)
    def kept(subject: Subject) -> Found:
        held: dict[Any, Any] = vars(subject).setdefault("_once", {})
        if function not in held:
            held[function] = function(subject)
        found: Found = held[function]
        return found

    return kept
