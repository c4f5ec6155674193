"""A Prefect server that the user named: a job is a flow run, which shows there with its stages as tasks."""

from typing import Any

from components.pipeline.backends import Backends
from components.pipeline.deployments import TAG
from components.pipeline.endings import Ending, ending_of
from components.runtime.collection import uncollected
from flows import prefect_server
from flows.engines import Job, T


def run(job: Job[T], _backends: Backends) -> T:
    prefect_server.prepare()
    with uncollected():
        from prefect import flow, tags

        from flows.endings import state_of
        from flows.tasks import as_task

    done: list[T] = []
    endings: list[Ending] = []

    def carried_out() -> Ending:
        done.append(job(as_task))
        return job.ending(done[0])

    def work(of: str) -> Any:  # Prefect shows what it is of
        with prefect_server.interruptible():
            endings.append(ending_of(carried_out))
        return state_of(of, endings[0])

    with tags(TAG):
        state = flow(work, name=job.name)(job.of, return_state=True)
    if not done and endings and endings[0].error is not None:
        raise endings[0].error
    return done[0] if done else state.result()  # which raises a defect
