"""From a brief to a champion, and the retraining that asks first whether there is anything to do, as Prefect flows."""

from functools import partial
from pathlib import Path

from prefect import flow

from components.core.brief import base_of
from components.pipeline import existing, production
from components.pipeline.briefs import load_brief
from components.pipeline.resolve import resolve
from components.pipeline.run import Produced, Run
from components.runtime.progress import stage
from flows.prefect_server import interruptible
from flows.settings import load_backends
from flows.tasks import as_task, network


@network
def resolve_brief(brief_path: str) -> Run:
    path, backends = Path(brief_path), load_backends()
    with stage("Data", quiet_s=10.0):
        return resolve(load_brief(path, backends), backends, base=base_of(path))


@flow(name="produce")
def produce(brief: str) -> Produced:
    """Take the brief at a path down the whole road. Raises GateRefused when a gate does not let the candidate pass."""
    with interruptible():
        run, backends = resolve_brief(brief), load_backends()
        produced, _ = production.find_or_produce(run, backends, partial(production.produce, run, backends, as_task))
    existing.refuse_unless_passed(produced)
    return produced


@flow(name="retrain")
def retrain(brief: str) -> str:
    """Produce again when the data, the brief or genwright has changed since; else do nothing. Returns what was done, and why."""
    with interruptible():
        run, backends = resolve_brief(brief), load_backends()
        return production.retrain(run, backends, partial(production.produce, run, backends, as_task))
