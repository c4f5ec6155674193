"""A pipeline sent to a cluster's Kubeflow Pipelines."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.core.errors import RunError
from flows.kubeflow.pipeline import write


def submit(pipeline: Any, name: str, *, host: str) -> str:
    """Where the run that was begun is seen. Raises RunError where the server does not take it."""
    from kfp import client

    with TemporaryDirectory() as folder:
        write(pipeline, path := Path(folder, f"{name}.yaml"))
        warnings.simplefilter("ignore", FutureWarning)  # that it knows no server of 2021
        try:
            sent = client.Client(host=host).create_run_from_pipeline_package(
                str(path), enable_caching=False, experiment_name=name
            )
        except Exception as error:  # whatever of HTTP, TLS and DNS kfp passes on
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(f"{host}: the pipeline was not taken: {first}", do="check --host, and that you may use it") from error
    return f"{name}: run {sent.run_id} was begun, see {host.rstrip('/')}/#/runs/details/{sent.run_id}"
