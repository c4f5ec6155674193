"""A network that judges, trained once for all machines: by whichever is first, and kept in the store."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from components.core.errors import StorageError
from components.core.files import mark_used
from components.core.record import Record
from components.core.records import Artifact
from components.pipeline.backends import Backends

Network = TypeVar("Network")


class SharedNetwork(Record):
    """Its two files in the store: `card`, its record, names the weights' digest."""

    weights: Artifact
    card: Artifact


def trained_once(train: Callable[[], Network], dest: Path, backends: Backends, *, key: str, weights: str, card: str) -> Network:
    """What `train` leaves in `dest` as the files `weights` and `card`, or reads where they stand there.

    Of two machines that train one at the same time, the first to put it under `key` gives it to both.
    """
    from filelock import FileLock

    workspace = backends.workspace
    dest.mkdir(parents=True, exist_ok=True)

    def make() -> SharedNetwork:
        train()
        return SharedNetwork(weights=workspace.put(dest / weights), card=workspace.put(dest / card))

    mark_used(dest)
    with FileLock(dest / ".lock"):  # two models on the same data may start at the same time
        for last in (False, True):
            shared = workspace.read_or_make(
                key, SharedNetwork, make, is_valid=lambda known: workspace.holds(known.weights, known.card)
            )
            try:
                for artifact in (shared.weights, shared.card):  # the record last: without it nothing counts as written
                    if not artifact.is_at(dest / artifact.name):
                        workspace.link(artifact, dest / artifact.name)
                break
            except StorageError:  # freed between the two, as what nobody needed for long
                if last:
                    raise
        return train()
