"""This process: each stage is a function call."""

from pathlib import Path

from components.pipeline import production
from components.pipeline.backends import Backends
from components.pipeline.run import Produced, Run
from flows.cli.show import Report


def produced(run: Run, brief: Path, backends: Backends, *, show: bool) -> Produced:
    """The whole road here."""
    return production.produce(run, backends, production.in_process(backends), Report(backends.workspace, enabled=show))
