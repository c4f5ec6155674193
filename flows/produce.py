"""The retraining of a brief as a deployment runs it: `genwright schedule` makes one for a brief."""

from functools import partial
from pathlib import Path

from prefect import flow
from prefect.context import FlowRunContext
from prefect.states import State

from components.pipeline import triggers
from components.pipeline.endings import Ending, ending_of
from components.pipeline.resolve import resolve_file
from components.pipeline.run import Run
from components.runtime.progress import stage
from flows.endings import state_of
from flows.settings import load_backends
from flows.tasks import as_task, network


@network
def resolve_brief(brief_path: str) -> Run:
    with stage("Data", quiet_s=10.0):
        return resolve_file(Path(brief_path), load_backends())


@flow(name="retrain")
def retrain(brief: str, trigger: str = "hand", slot: str | None = None) -> State[None]:
    """Produce again when the data, the brief or genwright has changed since; else do nothing. Its state says which, and why.

    `trigger`: hand, cron, new-data, new-base or event. `slot`: the time that a cron line names, by default when the run was to
    start; the id of an event.
    """
    return state_of(Path(brief).stem, ending_of(partial(_retrained, brief, trigger, slot)))


def _retrained(brief: str, trigger: str, slot: str | None) -> Ending:
    context = FlowRunContext.get()
    own = context.flow_run if context is not None else None
    at, by = (slot or own.expected_start_time, f"the flow run {own.name}") if own is not None else (slot, "")
    return triggers.retrain(Path(brief), triggers.trigger_of(trigger, at, by), load_backends(), resolve_brief, as_task)
