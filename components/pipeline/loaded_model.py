"""A release opened as what it was before it became a graph: the trained family, and the data that it was trained on."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from components.core import store_keys
from components.core.errors import RunError
from components.core.protocols import ItemSplit
from components.core.records import Bundle, Lineage, LocalDataset, Release
from components.pipeline.backends import Backends
from components.pipeline.local_data import data_of
from components.pipeline.restored import restored
from components.pipeline.run import Run, Trained, record_key

if TYPE_CHECKING:
    from components.core.family import Family


@dataclass(frozen=True)
class LoadedModel:
    """A trained model on this machine. `family` is in evaluation mode."""

    release: Release
    family: "Family"
    dataset: LocalDataset
    device: str

    @cached_property
    def train(self) -> ItemSplit:
        from components.data.shards import open_split

        return open_split(self.dataset.path, "train")

    @cached_property
    def held_out(self) -> ItemSplit:
        from components.data.joined import held_out

        return held_out(self.dataset)


def load_model(reference: str, backends: Backends) -> LoadedModel:
    """The model of a release, its weights verified.

    Raises UnknownModel; RunError when its training is not in the store; DataError when its data is not as it was.
    """
    from components.pipeline.release_commands import bundle_of
    from components.runtime.devices import device_for

    release = backends.versions.resolve(reference)
    _, bundle = bundle_of(release, backends)
    run, trained = training_of(release, bundle.lineage, backends)
    return LoadedModel(release, restored(run, trained, backends), data_of(run, backends), device_for("auto"))


def trained_family(release: Release, bundle: Bundle, backends: Backends) -> "Family":
    """The trained family of a release, in evaluation mode. Raises RunError where its training is not in the store."""
    return restored(*training_of(release, bundle.lineage, backends), backends)


def training_of(release: Release, lineage: Lineage, backends: Backends) -> tuple[Run, Trained]:
    """The records of the run that the bundle came from."""
    workspace, key = backends.workspace, lineage.run_key
    run = workspace.read(store_keys.run_record(release.model, key, "run"), Run) if key else None
    trained = workspace.read(record_key(run, "train"), Trained) if run else None
    name = f"{release.model} version {release.version}"
    lost = f"{name}: its checkpoint {lineage.checkpoint_sha256[:12]} is not in {workspace.store.uri}"
    if run and trained and trained.checkpoint.weights.sha256 == lineage.checkpoint_sha256:
        if not workspace.holds(trained.checkpoint.weights):
            raise RunError(lost, do=f"put it back, or train it again: genwright train --run {release.model}/{key}")
        return run, trained.model_copy(update={"checkpoint": run.checkpoint(trained)})
    if key is None:
        what = f"{name}: made by an earlier genwright, which kept its training out of the store"
        raise RunError(what, do="produce its brief again; it serves and rolls back as it is")
    raise RunError(lost, do="name the store that has it in GENWRIGHT_STORE, or produce it again")
