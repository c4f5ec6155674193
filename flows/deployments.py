"""The deployments of a Prefect server: retrain/NAME retrains a brief, stage/NAME carries out stages of it on another pool."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from components.core.errors import InputError, RunError, SettingsError
from components.pipeline.automations import OF_SCHEDULES, event_document
from components.pipeline.deployments import TAG, lines, stage_document
from components.pipeline.schedules import Planned
from flows import automation_api, prefect_server


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


def put_stage(
    name: str, client: Any, *, pool: str, folder: str | None = None, variables: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Create or update the deployment by which the stages of a brief are carried out in a pool, and return it."""
    from flows.stage import stage

    asked = stage_document(name, entrypoint="flows.stage.stage", pool=pool, folder=folder, variables=variables)
    return post(asked, stage, client)


def pool_of(name: str, client: Any, *, where: str) -> dict[str, Any]:
    """A work pool, as the server has it. Raises InputError for one that is not there, which was named `where`."""
    from prefect.exceptions import ObjectNotFound

    try:
        found: dict[str, Any] = client.read_work_pool(name).model_dump(mode="json")
    except ObjectNotFound as error:
        raise InputError(f"{where} {name}: no such work pool", do=f"`prefect work-pool create {name} --type process`") from error
    return found


def stage_of(name: str, client: Any) -> dict[str, Any] | None:
    """The deployment that put_stage made."""
    from prefect.exceptions import ObjectNotFound

    try:
        found: dict[str, Any] = client.read_deployment_by_name(f"stage/{name}").model_dump(mode="json")
    except ObjectNotFound:
        return None
    return found


def post(asked: dict[str, Any], flow: Any, client: Any) -> dict[str, Any]:
    """Create or update a deployment of a flow, and return it."""
    schema = flow.parameters.model_dump_for_openapi()  # with which a person fills in a run of one's own in Prefect's page
    own = {"flow_id": str(client.create_flow(flow)), "parameter_openapi_schema": schema}
    made: dict[str, Any] = client.request("POST", "/deployments/", json=asked | own).json()
    return made


def remove_stage(name: str, client: Any) -> None:
    """Remove what put_stage made, if it did."""
    if (found := stage_of(name, client)) is not None:
        client.request("DELETE", f"/deployments/{found['id']}")


def planned() -> list[Planned]:
    """What will run when, by name."""
    with server() as client:
        events = {each["name"].removeprefix(OF_SCHEDULES): each for each in automation_api.found(client, OF_SCHEDULES)}
        return [line for each in _ours(client) for line in lines(each, _last_run(each["id"], client), events.get(each["name"]))]


def put_event(name: str, event: str | None, client: Any, *, deployment: str) -> None:
    """Let an event start a deployment, by its id; None: no event does any more."""
    known = automation_api.found(client, f"{OF_SCHEDULES}{name}")
    if event is not None:
        automation_api.put(client, event_document(name, event, deployment=deployment), known)
        return
    for each in known:
        if each["name"] == f"{OF_SCHEDULES}{name}":
            automation_api.remove(client, each)


def remove(name: str) -> None:
    """Remove the deployment of a brief, and what it would have run. Raises InputError where there is none."""
    with server() as client:
        found = {each["name"]: each["id"] for each in _ours(client)}
        if name not in found:
            raise InputError(f"{name}: has no schedule", allowed=", ".join(found) or "none: nothing is scheduled")
        put_event(name, None, client, deployment=found[name])
        client.request("DELETE", f"/deployments/{found[name]}")
        remove_stage(name, client)


def _ours(client: Any) -> list[dict[str, Any]]:
    asked = {"deployments": {"tags": {"all_": [TAG]}}, "sort": "NAME_ASC"}
    return list(client.request("POST", "/deployments/filter", json=asked).json())


def _last_run(deployment: str, client: Any) -> dict[str, Any] | None:
    ended = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
    asked = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": ended}, "sort": "END_TIME_DESC", "limit": 1}
    return next(iter(client.request("POST", "/flow_runs/filter", json=asked).json()), None)
