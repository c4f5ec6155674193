"""A Prefect server that the user named: the command runs its flow, which shows there."""

from pathlib import Path

from components.pipeline.backends import Backends
from components.pipeline.run import Produced, Run
from flows import prefect_server


def produced(run: Run, brief: Path, backends: Backends, *, show: bool) -> Produced:
    """The flow resolves the brief again: it may be run by a worker that has nothing but its path."""
    prefect_server.prepare()
    from flows.produce import produce as flow

    found: Produced = flow(str(brief), show=show)
    return found
