"""MLflow's experiments: one a brief, which holds the runs of its trainings and the models that they made."""

from pathlib import Path
from typing import Any

from components.core.errors import RegistryError, disk_error
from components.registry.file_roots import check_reachable, folder_of
from components.registry.mlflow_store import EXISTS, code_of, translated


def experiment_id(client: Any, tracking_uri: str, *, name: str, artifact_root: Path | None) -> str:
    """That of the experiment of this name. A new one keeps its files below `artifact_root`; None: where MLflow's server keeps
    them. Raises RegistryError."""
    with translated(tracking_uri):
        found = client.get_experiment_by_name(name)
    if found is None:
        return _made(client, name, artifact_root)
    if found.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise RegistryError(f"experiment {name!r} was deleted in MLflow", do=f"restore it ({restore}) or rename the brief")
    check_reachable(found.artifact_location, tracking_uri, what=f"experiment {name!r}")
    return str(found.experiment_id)


def _made(client: Any, name: str, artifact_root: Path | None) -> str:
    where = None if artifact_root is None else f"{artifact_root.absolute().as_uri().rstrip('/')}/{name}"
    if where is not None and (folder := folder_of(where)) is not None:
        _make(folder)  # by which this machine knows it again
    try:
        with translated(name):
            return str(client.create_experiment(name, artifact_location=where))
    except RegistryError as error:
        if code_of(error) != EXISTS:
            raise
        return str(client.get_experiment_by_name(name).experiment_id)  # another process was first


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
