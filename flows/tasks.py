"""Stages as Prefect tasks. Prefect adds the retries where one can help, and the sight of it; what is cached and resumed is the
stages' own."""

from collections.abc import Callable, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import SyncClientContext, TagsContext
from prefect.exceptions import ObjectNotFound

from components.core.errors import GenwrightError
from components.core.record import Record
from components.pipeline.backends import Backends
from components.pipeline.needs import needs_of
from components.pipeline.order import STAGES, Stage
from components.pipeline.placement import is_placed
from components.pipeline.production import PASSING, RETRY_DELAYS_S, execute
from flows.progress import shown
from flows.settings import load_backends


def passing(*kinds: type[GenwrightError]) -> Callable[[Any, Any, Any], bool]:
    """A Prefect retry condition: retry on these errors, never on wrong input or a defect."""

    def condition(_task: Any, _run: Any, state: Any) -> bool:
        return isinstance(state.result(raise_on_failure=False), kinds)

    return condition


RETRIES: dict[str, Any] = {
    "retries": len(RETRY_DELAYS_S),
    "retry_delay_seconds": list(RETRY_DELAYS_S),
    "retry_condition_fn": passing(*PASSING),
}
network = task(cache_policy=NO_CACHE, **RETRIES)


def flow_tags() -> dict[str, str]:
    """By which MLflow's page names the flow run that asks for a stage."""
    from prefect.runtime import flow_run

    return {"prefect.flow_run_id": flow_run.id, "prefect.flow_run_name": flow_run.name} if flow_run.id else {}


def _task_of(stage: Stage) -> Any:
    """The task of a stage: its records in, its record out."""

    def run(records: Sequence[Record]) -> Record:
        backends = load_backends()
        backends.run_by = flow_tags()
        if _is_placed(stage, records, backends):
            from flows import placed

            return placed.carry_out(stage, records, backends)
        with shown(stage, records[0], backends):
            return execute(stage, records, backends)

    return task(run, name=stage.name, cache_policy=NO_CACHE, **(RETRIES if stage.retried else {}))


def _is_placed(stage: Stage, records: Sequence[Record], backends: Backends) -> bool:
    """Whether it is carried out in the pool that the settings name."""
    return backends.settings.placed_on is not None and is_placed(stage, records[0])  # type: ignore[arg-type]


TASKS = {stage.name: _task_of(stage) for stage in STAGES}


def as_task(stage: Stage, records: Sequence[Record]) -> Record:
    """Prefect's engine: see `Call` in components/pipeline/production.py. Its tag, by which a team may limit how many run at once,
    is the device that the stage needs; its name says the rest. One that only waits for a pool is of no device."""
    run, backends = records[0], load_backends()
    needs = needs_of(stage, run, backends)  # type: ignore[arg-type]
    own = set() if _is_placed(stage, records, backends) else {f"genwright-{needs.device}"}
    tagged = TASKS[stage.name].with_options(task_run_name=f"{stage.name}: {needs.text}")
    with TagsContext(current_tags=limited(own | TagsContext.get().current_tags)):
        record: Record = tagged(list(records))
    return record


def limited(tags: set[str]) -> set[str]:
    """Those of the tags by which the server limits how many tasks run at once: a task has no other.

    For any tag of a task Prefect's client asks for a slot, whether or not there is a limit, and the server writes. One on SQLite
    answers 503 while it writes how the task before ended, and the client asks again two seconds later: at nearly each stage.
    """
    with SyncClientContext.get_or_create() as context:
        return {tag for tag in tags if _has_limit(f"tag:{tag}", context.client)}


def _has_limit(name: str, client: Any) -> bool:
    try:
        client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        return False
    return True
