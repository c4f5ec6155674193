"""The same calls against a real MLflow server, as a team has it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import mlflow_server

from components.core.errors import UnknownModel
from components.registry.mlflow_store import connect
from components.registry.owner import reap
from components.registry.tracking import MlflowTracker, start_run
from components.registry.versions import Versions


@pytest.fixture
def server(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    with mlflow_server(tmp_path, tracking_uri, str(tmp_path / "artifacts")) as address:
        yield address


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
        for _ in range(2):
            assert versions.register("digits", sha256=f"{number:064x}", uri=uri, run_id=run_id).version == number
        assert connect(server).get_model_version("digits", str(number)).tags["bundle_uri"] == uri
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
