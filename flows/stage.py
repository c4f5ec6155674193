"""One stage of a run as a deployment of its own carries it out, on another machine than the flow that asks for it."""

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Crashed, Failed, State

from components.core import store_keys
from components.core.errors import GenwrightError, Interrupted
from components.pipeline import placement, production
from components.pipeline.lease import Lease, lease
from flows.settings import load_backends


@flow(name="stage")
def stage(name: str, run: str, under: Lease | None = None, run_by: dict[str, str] | None = None) -> State[None]:
    """Run one stage of the run MODEL/KEY with what the store has of it, as `genwright stage` does.

    `under`: the lease of the production that asks for it, which goes on holding it; `run_by`: its tags for MLflow.
    """
    try:
        _carry_out(name, run, under, run_by or {})
    except Interrupted as error:  # its state is saved
        if _is_cancelled():
            return Cancelled(message=str(error))
        return Crashed(name=placement.INTERRUPTED, message=str(error))
    except GenwrightError as error:
        return Failed(name=type(error).__name__, message=str(error))
    return Completed(message=f"{run}: {name} is done")


def _carry_out(name: str, run: str, under: Lease | None, run_by: dict[str, str]) -> None:
    backends = load_backends()
    backends.run_by = run_by
    call = production.in_process(backends)
    if under is None:
        production.run_stage(name, run, backends, call)
        return
    with lease(store_keys.beat(flow_run.id, flow_run.run_count), backends):  # by which whoever waits sees that this process lives
        production.run_stage(name, run, backends, call, under=under)


def _is_cancelled() -> bool:
    """Whether somebody asked for the end of this flow run."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run.id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())
