"""A Prefect server that the user named: a job is a flow run, which shows there with its stages as tasks."""

from components.pipeline.backends import Backends
from flows import prefect_server
from flows.engines import Job, T


def run(job: Job[T], _backends: Backends) -> T:
    prefect_server.prepare()
    from prefect import flow

    from flows.tasks import as_task

    def work(of: str) -> T:  # Prefect shows what it is of
        with prefect_server.interruptible():
            return job(as_task)

    done: T = flow(work, name=job.name)(job.of)
    return done
