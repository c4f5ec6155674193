"""The deployments of a Prefect server that retrain briefs, one a brief: retrain/NAME."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from components.core.errors import InputError, RunError, SettingsError
from components.pipeline.deployments import TAG, document, lines
from components.pipeline.schedules import Planned, Schedule
from flows import prefect_server


@contextmanager
def server() -> Iterator[Any]:
    """A client of the server that the environment names. Raises SettingsError where it names none, and RunError."""
    if not prefect_server.is_named():
        do = "start one, `prefect server start`, and set it, as http://127.0.0.1:4200/api"
        raise SettingsError("PREFECT_API_URL: names no Prefect server, where schedules live", do=do)
    prefect_server.prepare()
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise RunError(f"{error.request.url}: the Prefect server answers {error.response.text[:200]}") from error
    except httpx.HTTPError as error:
        raise RunError(f"PREFECT_API_URL: no Prefect server answers: {error}", do="start it, or set another") from error


def put(schedule: Schedule, *, pool: str) -> None:
    """Create or update the deployment; the server replaces all schedules that it had. Raises InputError for an unknown pool."""
    with server() as client:
        from prefect.exceptions import ObjectNotFound

        from flows.produce import retrain

        try:
            client.read_work_pool(pool)
        except ObjectNotFound as error:
            do = f"`prefect work-pool create {pool} --type process`"
            raise InputError(f"--pool {pool}: no such work pool", do=do) from error
        asked = document(schedule, entrypoint="flows.produce.retrain", pool=pool)
        schema = retrain.parameters.model_dump_for_openapi()  # with which a person fills in a run of one's own in Prefect's page
        flow = {"flow_id": str(client.create_flow(retrain)), "parameter_openapi_schema": schema}
        client.request("POST", "/deployments/", json=asked | flow)


def planned() -> list[Planned]:
    """What will run when, by name."""
    with server() as client:
        return [line for each in _ours(client) for line in lines(each, _last_run(each["id"], client))]


def remove(name: str) -> None:
    """Remove the deployment of a brief, and what it would have run. Raises InputError where there is none."""
    with server() as client:
        found = {each["name"]: each["id"] for each in _ours(client)}
        if name not in found:
            raise InputError(f"{name}: has no schedule", allowed=", ".join(found) or "none: nothing is scheduled")
        client.request("DELETE", f"/deployments/{found[name]}")


def _ours(client: Any) -> list[dict[str, Any]]:
    asked = {"deployments": {"tags": {"all_": [TAG]}}, "sort": "NAME_ASC"}
    return list(client.request("POST", "/deployments/filter", json=asked).json())


def _last_run(deployment: str, client: Any) -> dict[str, Any] | None:
    ended = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
    asked = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": ended}, "sort": "END_TIME_DESC", "limit": 1}
    return next(iter(client.request("POST", "/flow_runs/filter", json=asked).json()), None)
