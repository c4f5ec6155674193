"""Who works on a run: a process, named by host, pid and start time, so that a reused pid is not mistaken for it.

MLflow leaves the run of a killed process RUNNING for ever; `reap` ends it.
"""

import socket

import psutil

from components.registry.mlflow_store import connect, translated

HOST, PID, STARTED = "genwright.host", "genwright.pid", "genwright.started"
SAME_PROCESS_S = 2.0  # the start time is derived from the clock; it moves a little when the clock is set


def owner_tags() -> dict[str, str]:
    """The tags that name this process."""
    process = psutil.Process()
    return {HOST: socket.gethostname(), PID: str(process.pid), STARTED: f"{process.create_time():.2f}"}


def reap(tracking_uri: str) -> tuple[str, ...]:
    """End, as KILLED, the RUNNING runs whose process on this host is gone. Returns their ids. Raises RegistryError."""
    client = connect(tracking_uri)
    with translated(tracking_uri):
        every = [experiment.experiment_id for experiment in client.search_experiments()]
        asked = f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{socket.gethostname()}'"
        left = [run for run in client.search_runs(every, filter_string=asked) if not _alive(run.data.tags)]
        for run in left:
            client.set_tag(run.info.run_id, "genwright.ended_by", "reaper: its process was gone")
            client.set_terminated(run.info.run_id, status="KILLED")
    return tuple(run.info.run_id for run in left)


def _alive(tags: dict[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags[PID]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - float(tags[STARTED])) < SAME_PROCESS_S
    except psutil.NoSuchProcess:
        return False
    except (KeyError, ValueError, psutil.AccessDenied):
        return True  # not ours to judge
