"""Who works on a run: the process that its tags name. MLflow leaves the run of a killed one RUNNING; `reap` ends it."""

import socket
import time
from typing import Any

from components.registry.mlflow_store import light_client, translated
from components.runtime.identity import Identity

HOST, PID, STARTED, SEEN_BY = "genwright.host", "genwright.pid", "genwright.started", "genwright.pid_namespace"
ENDED_BY = "genwright.ended_by"
SILENT_S = 600.0  # a run that lives writes system metrics every few seconds


def owner_tags() -> dict[str, str]:
    """The tags that name this process."""
    own = Identity.own()
    return {HOST: own.host, PID: str(own.pid), STARTED: f"{own.started_s:.2f}", SEEN_BY: own.seen_by}


def reap(tracking_uri: str, *, experiment: str | None = None) -> tuple[str, ...]:
    """End, as KILLED, the RUNNING runs whose process on this host is gone: of one experiment, or of all. Returns their ids.

    Raises RegistryError.
    """
    client = light_client(tracking_uri)
    with translated(tracking_uri):
        left = _left(client, experiment)
        for run in left:
            client.set_tag(run.info.run_id, ENDED_BY, "reaper: its process was gone")
            client.set_terminated(run.info.run_id, status="KILLED")
    return tuple(run.info.run_id for run in left)


def left_running(tracking_uri: str) -> list[tuple[str, str]]:
    """Id and name of the runs that `reap` would end. Raises RegistryError."""
    client = light_client(tracking_uri)
    with translated(tracking_uri):
        return [(str(run.info.run_id), str(run.info.run_name)) for run in _left(client, None)]


def _left(client: Any, experiment: str | None) -> list[Any]:
    named = None if experiment is None else f"name = '{experiment}'"
    every = [found.experiment_id for found in client.search_experiments(filter_string=named)]
    asked = f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{socket.gethostname()}'"
    running = client.search_runs(every, filter_string=asked) if every else []
    return [run for run in running if not _alive(run)]


def _alive(run: Any) -> bool:
    tags = run.data.tags
    try:
        owner = Identity(host=tags[HOST], pid=tags[PID], started_s=tags[STARTED], seen_by=tags.get(SEEN_BY, ""))
    except (KeyError, ValueError):
        return True  # not ours to judge
    return owner.lives if owner.is_visible else _last_sign_s(run) > time.time() - SILENT_S


def _last_sign_s(run: Any) -> float:
    """When the run last wrote something, in seconds since 1970."""
    stamps = (metric.timestamp for metric in run.data._metric_objs)
    return float(max((run.info.start_time, *stamps))) / 1000
