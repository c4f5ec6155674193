"""From a brief to a champion, and the retraining that asks first whether there is anything to do, as Prefect flows."""

from functools import partial
from pathlib import Path

from prefect import flow
from prefect.states import State

from components.pipeline import production
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


@flow(name="produce")
def produce(brief: str) -> State[None]:
    """Take the brief at a path down the whole road."""
    return _ended(brief)


@flow(name="retrain")
def retrain(brief: str) -> State[None]:
    """Produce again when the data, the brief or genwright has changed since; else do nothing. Its state says which, and why."""
    return _ended(brief)


def _ended(brief: str) -> State[None]:
    def work() -> Ending:
        run, backends = resolve_brief(brief), load_backends()
        return production.retrain(run, backends, partial(production.produce, run, backends, as_task))

    return state_of(Path(brief).stem, ending_of(work))
