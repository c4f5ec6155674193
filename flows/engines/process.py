"""This process: each stage is a function call."""

from components.pipeline import production
from components.pipeline.backends import Backends
from flows.engines import Job, T


def run(job: Job[T], backends: Backends) -> T:
    return job(production.in_process(backends))
