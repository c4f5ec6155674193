"""One MLflow run, by its id: never the fluent global run, which threads and subprocesses cannot see.

The run survives its process: `resume` takes it over after a crash, and points that were logged before are not logged twice.
"""

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from components.core.arrays import Stored
from components.core.errors import Interrupted, RegistryError
from components.core.files import link_or_copy
from components.registry.experiments import experiment_id
from components.registry.file_roots import check_reachable, folder_of
from components.registry.metric_buffer import MetricBuffer, Row
from components.registry.mlflow_store import MISSING, code_of, connect, light_client, translated
from components.registry.owner import ENDED_BY, owner_tags

Status = Literal["FINISHED", "FAILED", "KILLED"]
PARAM_MAX = 6000  # characters that MLflow keeps of a parameter; of a tag it keeps more
SYSTEM = "system/"  # the prefix that MLflow's page for system metrics looks for


def start_run(
    tracking_uri: str,
    *,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    artifact_root: Path | None,
    who: str | None = None,
    note: str = "",
    parent: str | None = None,
) -> str:
    """Create a run that this process owns and return its id. A new experiment keeps its files below `artifact_root`; None: where
    MLflow's server keeps them.

    `who`, `note` and `parent`, a run's id, stand where MLflow's page shows user, description and parent. Raises RegistryError.
    """
    client = connect(tracking_uri)
    from mlflow.utils import mlflow_tags as known

    where = experiment_id(client, tracking_uri, name=experiment, artifact_root=artifact_root)
    shown = {known.MLFLOW_USER: who, known.MLFLOW_RUN_NOTE: _cut(note), known.MLFLOW_PARENT_RUN_ID: parent}
    every = {**tags, **owner_tags(), **{key: value for key, value in shown.items() if value}}
    with translated(tracking_uri):
        run = client.create_run(where, run_name=name, tags=every)
    return str(run.info.run_id)


def last_metrics(tracking_uri: str, run_id: str) -> dict[str, float]:
    """The last value of each metric of a run. Raises RegistryError."""
    client = light_client(tracking_uri)
    with translated(tracking_uri):
        return dict(client.get_run(run_id).data.metrics)


class MlflowTracker:
    """A run of MLflow as a core.protocols.Tracker.

    Metrics wait in memory and are written every `flush_s` seconds. As a context manager it resumes the run, adds system
    metrics, and finishes it with what `status_after` says.
    Raises RegistryError when the run is unknown.
    """

    def __init__(self, tracking_uri: str, run_id: str, *, flush_s: float = 2.0) -> None:
        self.run_id = run_id
        self._flush_s = flush_s
        self._client = connect(tracking_uri)
        with self._translated():
            artifacts = self._client.get_run(run_id).info.artifact_uri
        check_reachable(artifacts.rsplit("/", 2)[0], tracking_uri, what=f"run {run_id}")  # without RUN/artifacts
        self._files = folder_of(artifacts)
        self._left = False
        self._seen: dict[str, int] = {}  # metric -> last step logged before the crash
        self._buffer = MetricBuffer(self._write, every_s=flush_s)
        self._sigterm: Any = None

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; a value too long for MLflow is cut. Raises RegistryError when one already has another value."""
        from mlflow.entities import Param

        rows = iter([Param(key, _cut(str(value))) for key, value in values.items()])
        with self._translated():
            while batch := list(islice(rows, 100)):  # MLflow's limit
                self._client.log_batch(self.run_id, params=batch)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        with self._translated():
            for key, value in values.items():
                self._client.set_tag(self.run_id, key, value)

    def dataset(self, name: str, *, digest: str, source: Mapping[str, str], profile: Mapping[str, object], context: str) -> None:
        """Log a data version as an input of the run: its `source` in DVC, and as `context` what it is used for."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        # 36: as much as MLflow keeps
        data = Dataset(name, digest[:36], "dvc", json.dumps(dict(source)), profile=json.dumps(dict(profile)))
        with self._translated():
            self._client.log_inputs(self.run_id, [DatasetInput(data, [InputTag(MLFLOW_DATASET_CONTEXT, context)])])

    def begins_with(self, model_id: str) -> None:
        """Log a LoggedModel as an input of the run: the teacher that it learns from, or the base whose weights it begins with."""
        from mlflow.entities import LoggedModelInput

        with self._translated():
            self._client.log_inputs(self.run_id, models=[LoggedModelInput(model_id)])

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Log values at a step; returns at once. Points that the run has from before a crash are skipped."""
        new = {key: value for key, value in values.items() if step > self._seen.get(key, -1)} if self._seen else values
        self._buffer.add(new, step=step)

    def image(self, name: str, image: Stored, *, step: int) -> None:
        """Log one picture, uint8 [H, W, C], as the artifact NAME/STEP.png."""
        with self._translated():
            self._client.log_image(self.run_id, image, artifact_file=f"{name}/{step:08d}.png")

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file, or everything in a folder, below `folder`; nobody writes into one after this.

        Where MLflow keeps files in a folder of this machine, a file gets another name there and is not written twice.
        """
        if self._files is not None:
            for file in (each for each in (path, *path.rglob("*")) if each.is_file()):
                link_or_copy(file, self._files / folder / file.relative_to(path if path.is_dir() else path.parent))
            return
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with self._translated():
            log(self.run_id, str(path), folder or None)

    def flush(self) -> None:
        """Write the waiting metrics now. Raises RegistryError; they are kept then."""
        self._buffer.flush()

    def resume(self) -> None:
        """Take the run over: RUNNING, owned by this process, with system metrics from now on."""
        self.tags(owner_tags())
        with self._translated():
            run = self._client.get_run(self.run_id)
            if run.info.status != "RUNNING":
                self._client.update_run(self.run_id, status="RUNNING")
            if ENDED_BY in run.data.tags:
                self._client.delete_tag(self.run_id, ENDED_BY)
        # `run.data.metrics` has the last values without their steps, and whole histories can be long.
        self._seen = {metric.key: metric.step for metric in run.data._metric_objs}
        after = 1 + max((step for key, step in self._seen.items() if key.startswith(SYSTEM)), default=-1)
        self._buffer = MetricBuffer(self._write, every_s=self._flush_s, sample=system_sampler(), sample_step=after)
        self._buffer.start()

    def leave(self) -> None:
        """Another process has taken the run over: from now on this one neither writes metrics nor ends it."""
        self._left = True

    def finish(self, status: Status = "FINISHED") -> None:
        """Write what is left and end the run. Raises RegistryError."""
        self._buffer.close()
        if self._left:
            return
        with self._translated():
            self._client.set_terminated(self.run_id, status=status)

    def __enter__(self) -> Self:
        self.resume()
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._sigterm = signal.signal(signal.SIGTERM, _exit_on_sigterm)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._sigterm is not None:
            signal.signal(signal.SIGTERM, self._sigterm)
        self.finish(status_after(kind))

    def _write(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        if self._left:
            return
        with self._translated():
            self._client.log_batch(self.run_id, metrics=[Metric(*row) for row in rows])

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"run {self.run_id}")


def _cut(value: str) -> str:
    """The value; a long one is cut, and its digest says whether two that begin alike are the same."""
    if len(value) <= PARAM_MAX:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f"{value[: PARAM_MAX - 100]}... ({len(value)} characters, sha256 {digest[:16]})"


def status_after(error: type[BaseException] | None) -> Status:
    """How a run ends after an error of this kind: KILLED where a person or a scheduler ended it, FAILED where it broke."""
    if error is None:
        return "FINISHED"
    return "FAILED" if issubclass(error, Exception) and not issubclass(error, Interrupted) else "KILLED"


def _exit_on_sigterm(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def system_sampler() -> Callable[[], dict[str, float]]:
    """What this machine does now: CPU, memory, disk, network, and each GPU where nvidia-ml-py is installed and finds one."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):
        monitors.append(GPUMonitor())

    def sample() -> dict[str, float]:
        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= {f"{SYSTEM}{key}": value for key, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return values

    return sample


def run_exists(tracking_uri: str, run_id: str) -> bool:
    """Whether the tracking server still knows a run."""
    try:
        MlflowTracker(tracking_uri, run_id)
    except RegistryError as error:
        if code_of(error) != MISSING:
            raise
        return False
    return True
