"""From a brief to a champion, and the retraining that asks first whether there is anything to do, as Prefect flows."""

from pathlib import Path

from prefect import flow

from components.core.brief import base_of
from components.pipeline import existing, production
from components.pipeline.briefs import load_brief
from components.pipeline.report import Report
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


def _produced(run: Run, *, show: bool = False) -> Produced:
    backends = load_backends()
    return production.produce(run, backends, as_task, Report(backends.workspace, enabled=show))


@flow(name="produce")
def produce(brief: str, show: bool = False) -> Produced:
    """Take the brief at a path down the whole road. Raises GateRefused when a gate does not let the candidate pass."""
    with interruptible():
        produced = _produced(resolve_brief(brief), show=show)
    existing.refuse_unless_passed(produced)
    return produced


@flow(name="retrain")
def retrain(brief: str) -> str:
    """Produce again when the data, the brief or genwright has changed since; else do nothing. Returns what was done, and why."""
    with interruptible():
        run = resolve_brief(brief)
        if (known := production.unchanged(run, load_backends())) is not None:
            return known[1]
        produced = _produced(run)
    existing.refuse_unless_passed(produced)
    return existing.produced_line(produced)
