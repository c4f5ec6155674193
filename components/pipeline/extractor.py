"""The feature extractor of a dataset version: trained once, by whichever machine is first, and kept in the store for all."""

from pathlib import Path
from typing import TYPE_CHECKING

from components.core import store_keys
from components.core.errors import StorageError
from components.core.files import mark_used
from components.core.record import Record
from components.core.records import Artifact, Dataset, LocalDataset
from components.pipeline.backends import Backends

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor


class SharedExtractor(Record):
    """Its two files in the store: `card`, its record, names the weights' digest."""

    weights: Artifact
    card: Artifact


def extractor_folder(dataset: Dataset, backends: Backends) -> Path:
    """Where it stands on this machine."""
    return backends.home.extractor(dataset.md5)


def load_extractor(dataset: LocalDataset, backends: Backends) -> "Extractor":
    """The extractor of a dataset version, trained when there is none yet.

    Its seed is not the brief's: numbers of every brief on the same data compare, because one yardstick measures them all. Of two
    machines that train one at the same time, the first to put it gives it to both.
    """
    from filelock import FileLock

    from components.data.shards import open_split
    from components.evaluation.extractor import RECORD, VERSION, WEIGHTS, train_extractor

    dest, workspace = extractor_folder(dataset, backends), backends.workspace
    dest.mkdir(parents=True, exist_ok=True)

    def train() -> "Extractor":
        """Or read what stands in the folder, where that is the one."""
        split = open_split(dataset.path, "train")
        return train_extractor(split, classes=len(dataset.classes), dest=dest, dataset_md5=dataset.md5)

    def make() -> SharedExtractor:
        train()
        return SharedExtractor(weights=workspace.put(dest / WEIGHTS), card=workspace.put(dest / RECORD))

    mark_used(dest)
    with FileLock(dest / ".lock"):  # two models on the same data may start at the same time
        key = store_keys.extractor(dataset.md5, VERSION)
        for last in (False, True):
            shared = workspace.read_or_make(
                key, SharedExtractor, make, is_valid=lambda known: workspace.holds(known.weights, known.card)
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
