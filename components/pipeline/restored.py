"""The model that a training left, as a run draws from it."""

from typing import TYPE_CHECKING

from components.pipeline.backends import Backends
from components.pipeline.run import Run, Trained

if TYPE_CHECKING:
    from components.core.family import Family


def restored(run: Run, trained: Trained, backends: Backends) -> "Family":
    """The trained family as this run draws from it, in evaluation mode."""
    from components.training.checkpoint import restore

    checkpoint = run.checkpoint(trained)
    return restore(checkpoint, backends.workspace.open(checkpoint.weights))
