"""What is shown as running and is not: runs in MLflow, flow runs in Prefect, leases."""

import socket
from collections.abc import Iterator
from datetime import datetime

import psutil

from components.operations.finding import Finding, Installation, ok, warn
from components.operations.prefect_api import PrefectApi
from components.pipeline.backends import Backends
from components.pipeline.lease import leases

SAME_S = 60.0  # a process that began so long after its flow run was set Running is another one


def check(installation: Installation) -> Iterator[Finding]:
    """One line for each that is stuck; one where none is."""
    backends = installation.backends
    found = [*_leases(backends), *_tracked(backends), *(_flow_runs(installation.prefect) if installation.prefect else ())]
    yield from found
    if not found:
        yield ok("nothing is shown as running whose process is gone")


def _leases(backends: Backends) -> Iterator[Finding]:
    for each in leases(backends.store):
        if each.expires_s and not each.is_held and not each.model.startswith("stages/"):  # which are begun anew
            again = "the next production of it takes over; nothing is to be done"
            yield warn(f"the lease of {each.model} was never given back: process {each.holder.pid} of {each.holder.host}", again)


def _tracked(backends: Backends) -> Iterator[Finding]:
    uri = backends.settings.mlflow_uri
    if uri.startswith("sqlite") and not backends.named_home.mlflow_database.exists() and backends.settings.tracking_uri is None:
        return
    from components.registry.owner import left_running

    for run_id, name in left_running(uri):
        remedy = "produce its brief again, which goes on with it, or set its status in MLflow"
        yield warn(f"MLflow shows run {run_id[:8]} ({name}) as RUNNING, and its process is gone", remedy)


def _flow_runs(api: PrefectApi) -> Iterator[Finding]:
    asked = {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}}
    for each in api.post("flow_runs/filter", flow_runs=asked, limit=200):
        if is_gone(str(each.get("infrastructure_pid") or ""), each.get("start_time")):
            remedy = f"prefect flow-run delete {each['id']}, or `genwright automations`, which lets the server find such runs"
            yield warn(f"Prefect shows {each['name']} as {each['state_name']}, and its process is gone", remedy)


def is_gone(infrastructure: str, start_time: str | None) -> bool:
    """Whether HOST:PID, as a process worker notes it, is of this host and not the process that it was."""
    host, _, pid = infrastructure.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        began = process.create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
    return start_time is not None and began > datetime.fromisoformat(start_time).timestamp() + SAME_S
