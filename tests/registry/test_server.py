"""The same calls against a real MLflow server, as a team has it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from components.core.errors import UnknownModel
from components.core.records import StoredBundle
from components.registry.mlflow_store import connect
from components.registry.owner import reap
from components.registry.tracking import MlflowTracker, start_run
from components.registry.versions import Versions


@pytest.fixture
def server(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(tmp_path / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        with httpx.Client(timeout=5, trust_env=False) as client:
            for _ in range(600):
                assert process.poll() is None, (tmp_path / "log").read_text()
                try:
                    if client.get(f"http://127.0.0.1:{port}/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: nothing but the server and its workers
        process.wait(timeout=30)


@pytest.mark.slow
def test_the_whole_registry_over_http(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = start_run(server, experiment="digits", name="run", tags={}, artifact_root=None)
    with MlflowTracker(server, run_id) as tracker:
        tracker.params({"lr": 0.1})
        tracker.metrics({"loss": 1.0}, step=0)
        tracker.image("samples", np.zeros((4, 4, 1), np.uint8), step=0)
        assert reap(server) == ()
    run = connect(server).get_run(run_id)
    assert (run.info.status, run.data.params, run.data.metrics["loss"]) == ("FINISHED", {"lr": "0.1"}, 1.0)
    assert any(path.name == "00000000.png" for path in (tmp_path / "artifacts").rglob("*.png"))
    versions = Versions(server)
    for number, uri in enumerate(("s3://bundles/a", (tmp_path / "bundles").as_uri(), str(tmp_path)), start=1):
        bundle = StoredBundle.model_construct(sha256=f"{number:064x}", uri=uri)
        assert versions.register("digits", bundle=bundle, run_id=run_id).bundle_uri == uri
        assert versions.register("digits", bundle=bundle, run_id=run_id).version == number
    versions.set_alias("digits", "champion", 2)
    assert versions.resolve("digits").version == 2
    for reference in ("nobody", "digits/9", "it's", ""):
        with pytest.raises(UnknownModel):
            versions.resolve(reference)
    with pytest.raises(UnknownModel, match="digits/9: no such version"):
        versions.set_alias("digits", "champion", 9)
    versions.drop_alias("digits", "champion")
    versions.drop_alias("digits", "champion")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
