"""Who works on a run: a process, named by host, pid and start time, so that a reused pid is not mistaken for it.

MLflow leaves the run of a killed process RUNNING for ever; `reap` ends it. Containers may share the name of their host and number
their own processes, so a pid says something only among those that this process can see: one boot of one machine, one namespace.
"""

import socket
import time
from pathlib import Path
from typing import Any

import psutil

from components.registry.mlflow_store import connect, translated

HOST, PID, STARTED, SEEN_BY = "genwright.host", "genwright.pid", "genwright.started", "genwright.pid_namespace"
ENDED_BY = "genwright.ended_by"
SAME_PROCESS_S = 2.0  # the start time is derived from the clock; it moves a little when the clock is set
SILENT_S = 600.0  # a run that lives writes system metrics every few seconds


def owner_tags() -> dict[str, str]:
    """The tags that name this process."""
    process = psutil.Process()
    return {HOST: socket.gethostname(), PID: str(process.pid), STARTED: f"{process.create_time():.2f}", SEEN_BY: _namespace()}


def reap(tracking_uri: str, *, experiment: str | None = None) -> tuple[str, ...]:
    """End, as KILLED, the RUNNING runs whose process on this host is gone: of one experiment, or of all. Returns their ids.

    Raises RegistryError.
    """
    client = connect(tracking_uri)
    with translated(tracking_uri):
        named = None if experiment is None else f"name = '{experiment}'"
        every = [found.experiment_id for found in client.search_experiments(filter_string=named)]
        asked = f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{socket.gethostname()}'"
        running = client.search_runs(every, filter_string=asked) if every else []
        left = [run for run in running if not _alive(run)]
        for run in left:
            client.set_tag(run.info.run_id, ENDED_BY, "reaper: its process was gone")
            client.set_terminated(run.info.run_id, status="KILLED")
    return tuple(run.info.run_id for run in left)


def _alive(run: Any) -> bool:
    tags = run.data.tags
    if tags.get(SEEN_BY) != _namespace():
        return _last_sign_s(run) > time.time() - SILENT_S
    return _process_lives(tags)


def _last_sign_s(run: Any) -> float:
    """When the run last wrote something, in seconds since 1970."""
    stamps = (metric.timestamp for metric in run.data._metric_objs)
    return float(max((run.info.start_time, *stamps))) / 1000


def _namespace() -> str:
    """Among which processes a pid of this one means something; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_lives(tags: dict[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags[PID]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - float(tags[STARTED])) < SAME_PROCESS_S
    except psutil.NoSuchProcess:
        return False
    except (KeyError, ValueError, psutil.AccessDenied):
        return True  # not ours to judge
