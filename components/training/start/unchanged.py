"""Unchanged: a base is released as it is. Nothing is trained; all that follows, proof, export, gates and registry, is as ever."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from components.core.records import Checkpoint
from components.training.start import ModelPlan, Origin, Start

if TYPE_CHECKING:
    from components.core.family import Family


class Unchanged(Start):
    """A base that stays what it is."""

    begins_from: ClassVar[tuple[Origin, ...]] = ("release", "foreign")
    learns: ClassVar[bool] = False
    kind: Literal["unchanged"] = "unchanged"
    base: Checkpoint
    weights: Path  # of the base, on this machine

    def build(self, plan: ModelPlan) -> "Family":
        """The base. Raises RunError where its weights are damaged."""
        from components.training.checkpoint import restore

        return restore(self.base, self.weights)
