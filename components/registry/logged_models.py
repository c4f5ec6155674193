"""A release as MLflow's users know models: a LoggedModel of the ONNX flavour, which `mlflow.onnx` and `mlflow.pyfunc` open.

The bundle in the object store stays the truth; nothing here is ever read to serve, to prove or to train. One bundle has one
LoggedModel: it is found by its tag, and is READY once it is whole, so a registration that was killed is finished by the next.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.bundles import MODEL_ONNX
from components.core.errors import RegistryError
from components.core.files import link_or_copy
from components.core.records import Metric, StoredBundle
from components.registry.experiments import experiment_id
from components.registry.file_roots import check_reachable, folder_of
from components.registry.mlflow_store import MISSING, code_of, connect, translated
from components.registry.onnx_flavour import PIPELINE, Adapter, write_flavour
from components.registry.versions import BUNDLE, LoggedModel

WritePipeline = Callable[[Path], object]
PROOF = "proof"  # what a scorecard's metrics are called under, whichever proof of its run this model is of


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, as MLflow has it: the run of its training and the step whose weights it has; the data that it
    learnt from and was proved on, by the names of the run's inputs, and their digest; and its scores there."""

    run_id: str
    step: int
    trained_on: str
    proved_on: str
    digest: str
    scores: Mapping[str, Metric]


class LoggedModels:
    """The LoggedModels of a tracking server. Raises RegistryError when MLflow refuses or cannot be reached."""

    def __init__(self, tracking_uri: str, *, artifact_root: Path | None) -> None:
        self._client = connect(tracking_uri)
        self._tracking_uri = tracking_uri
        self._artifact_root = artifact_root

    def log(
        self,
        stored: StoredBundle,
        graph: Path,
        origin: Origin,
        *,
        tags: Mapping[str, str],
        adapter: Adapter | None = None,
        write_pipeline: WritePipeline | None = None,
    ) -> LoggedModel:
        """The LoggedModel of a bundle, made or made whole where it is not yet. `graph` is the bundle's on this machine: it is
        uploaded, or gets another name where MLflow keeps files in a folder of this machine. `adapter`: that of a release by LoRA
        that mlflow.diffusers is to load. `write_pipeline` writes the network as diffusers reads it into a folder, of what was
        fine-tuned whole; it is called where files are written.

        It is in the experiment of its run; of a run that MLflow lost, in that of the model, with the version's parameters and
        metrics left out.
        """
        run = self._run(origin.run_id)
        experiment = run.info.experiment_id if run else self._experiment(stored.bundle.model)
        found = self._find(experiment, stored.sha256) or self._create(experiment, stored, run, tags)
        if str(found.status) != "READY":
            self._put_files(found, stored, graph, run, adapter, write_pipeline)
            if run is not None:
                self._link(found.model_id, stored, run, origin)
            with self._translated():
                self._client.finalize_logged_model(found.model_id, "READY")
        return LoggedModel(model_id=found.model_id, location=found.artifact_location)

    def _run(self, run_id: str) -> Any:
        """None where MLflow does not have it any more."""
        try:
            with self._translated():
                run = self._client.get_run(run_id)
        except RegistryError as error:
            if code_of(error) != MISSING:
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment(self, name: str) -> str:
        return experiment_id(self._client, self._tracking_uri, name=name, artifact_root=self._artifact_root)

    def _find(self, experiment: str, sha256: str) -> Any:
        """The first that was made of this bundle, or None."""
        with self._translated():
            found = self._client.search_logged_models([experiment], filter_string=f"tags.{BUNDLE} = '{sha256}'")
        return min(found, key=lambda each: (each.creation_timestamp, each.model_id), default=None)

    def _create(self, experiment: str, stored: StoredBundle, run: Any, tags: Mapping[str, str]) -> Any:
        """A new one with its tags and the parameters of its run, in one call; of two that were made at once, the first counts."""
        bundle = stored.bundle
        with self._translated():
            made = self._client.create_logged_model(
                experiment,
                name=f"{bundle.model}-{bundle.family}-{bundle.variant}",
                source_run_id=run and run.info.run_id,
                tags={**tags, BUNDLE: stored.sha256},
                params=run.data.params if run else {},
                model_type=bundle.family,
            )
        first = self._find(experiment, stored.sha256)
        if first.model_id != made.model_id:
            with self._translated():
                self._client.delete_logged_model(made.model_id)
        return first

    def _put_files(
        self,
        model: Any,
        stored: StoredBundle,
        graph: Path,
        run: Any,
        adapter: Adapter | None,
        write_pipeline: WritePipeline | None,
    ) -> None:
        assert graph.name == MODEL_ONNX
        location = model.artifact_location
        check_reachable(location.rsplit("/", 3)[0], self._tracking_uri, what=f"model {model.name}")  # without models/ID/artifacts
        with tempfile.TemporaryDirectory(prefix="genwright-") as name:
            folder = Path(name)
            if write_pipeline is not None:
                write_pipeline(folder / PIPELINE)
            own = {"sha256": stored.sha256, "model_id": model.model_id, "run_id": run and run.info.run_id}
            write_flavour(folder, stored.bundle, location=location, adapter=adapter, **own)
            if (kept := folder_of(location)) is not None:
                link_or_copy(graph, kept / graph.name)
                for path in folder.rglob("*"):
                    if path.is_file():
                        link_or_copy(path, kept / path.relative_to(folder))
                return
            with self._translated():
                self._client.log_model_artifacts(model.model_id, name)
                self._client.log_model_artifact(model.model_id, str(graph))

    def _link(self, model_id: str, stored: StoredBundle, run: Any, origin: Origin) -> None:
        """The model as what its run made, and the run's metrics as the model's."""
        from mlflow.entities import LoggedModelOutput

        run_id = run.info.run_id
        outputs = run.outputs.model_outputs if run.outputs else []
        with self._translated():
            if model_id not in {each.model_id for each in outputs}:
                self._client.log_outputs(run_id, [LoggedModelOutput(model_id, origin.step)])
            self._client.log_batch(run_id, metrics=[*self._metrics(model_id, stored, run, origin)])

    def _metrics(self, model_id: str, stored: StoredBundle, run: Any, origin: Origin) -> Iterator[Any]:
        """The scorecard, on the data that it was proved on; and the reading of the weights that were kept, on the training data.

        MLflow has no metrics of a model that are not of a run too: a point that the run has already keeps its time, and is one.
        """
        from mlflow.entities import Metric as Point

        known = {(metric.key, metric.step, metric.value): metric.timestamp for metric in run.data._metric_objs}
        own = {"model_id": model_id, "dataset_digest": origin.digest[:36], "run_id": run.info.run_id}
        now_ms = time.time_ns() // 1_000_000
        for name, metric in origin.scores.items():
            key = f"{PROOF}/{name}"
            at_ms = known.get((key, origin.step, metric.value), now_ms)
            yield Point(key, metric.value, at_ms, origin.step, dataset_name=origin.proved_on, **own)
        for point in self._client.get_metric_history(run.info.run_id, "train/fd"):
            if point.step == origin.step:
                yield Point(point.key, point.value, point.timestamp, point.step, dataset_name=origin.trained_on, **own)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._tracking_uri)
