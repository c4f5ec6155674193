"""A distillation as a Prefect flow."""

from prefect import flow

from components.pipeline.distil import run
from components.pipeline.distil.curve import Curve
from components.pipeline.distil.request import DistillRequest
from components.pipeline.report import Report
from components.pipeline.run import Produced
from flows.prefect_server import interruptible
from flows.settings import load_backends
from flows.tasks import as_task


@flow(name="distil")
def distil(reference: str, request: DistillRequest, show: bool = False) -> tuple[Curve, Produced | None]:
    """Train and prove every student that is asked for, keep the curve, and release the fastest that every gate passed."""
    with interruptible():
        backends = load_backends()
        return run.distil(reference, request, backends, as_task, Report(backends.workspace, enabled=show))
