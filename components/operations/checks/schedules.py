"""Schedules that nobody will carry out: deployments whose work pool has no worker that asked for work lately."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from components.core.errors import RunError
from components.operations.finding import Finding, Installation, fail, ok, warn
from components.operations.prefect_api import PrefectApi

LATELY_S = 120.0  # a worker is heard of every thirty seconds


def check(installation: Installation) -> Iterator[Finding]:
    """One line for each pool that deployments of ours are of."""
    api = installation.prefect
    if api is None:
        yield ok("nothing is scheduled without a Prefect server")
        return
    deployments = api.post("deployments/filter", deployments={"tags": {"any_": ["genwright", "genwright-stage"]}})
    pools = {pool: [each["name"] for each in deployments if pool in pools_of(each)] for pool in _every(deployments)}
    if not pools:
        yield ok("no brief is scheduled")
    for pool, names in pools.items():
        yield _of(pool, sorted(set(names)), api)


def pools_of(deployment: dict[str, Any]) -> set[str]:
    """The pool of its flow."""
    return {deployment["work_pool_name"]} if deployment["work_pool_name"] else set()


def _every(deployments: list[dict[str, Any]]) -> list[str]:
    return sorted({pool for each in deployments for pool in pools_of(each)})


def _of(pool: str, names: list[str], api: PrefectApi) -> Finding:
    what = f"{', '.join(names)}: work pool {pool}"
    try:
        its = api.get(f"work_pools/{pool}")
        workers = api.post(f"work_pools/{pool}/workers/filter")
    except RunError:
        return fail(f"{what} does not exist", f"prefect worker start --pool {pool} --type process")
    if its.get("is_paused"):
        return warn(f"{what} is paused", f"prefect work-pool resume {pool}")
    if its["type"] not in ("process",) and not workers:
        return warn(f"{what} ({its['type']}) has no worker that is known", f"start one: prefect worker start --pool {pool}")
    heard = [each for each in workers if _seconds_since(each["last_heartbeat_time"]) < LATELY_S]
    if heard:
        return ok(f"{what} has {len(heard)} worker{'s' if len(heard) > 1 else ''}")
    return fail(f"{what} has no worker that asked for work lately", f"genwright up, or prefect worker start --pool {pool}")


def _seconds_since(stamp: str | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds() if stamp else float("inf")
