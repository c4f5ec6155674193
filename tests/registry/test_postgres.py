"""PostgreSQL itself as the tracking URI: enough for one machine, and refused on a second one, which cannot reach its files."""

import shutil
from pathlib import Path

import pytest
from servers import Postgres

from components.core.errors import RegistryError
from components.registry.mlflow_store import connect
from components.registry.tracking import MlflowTracker, run_exists, start_run
from components.registry.versions import Versions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_database_is_enough_for_one_machine_and_refuses_a_second(postgres: Postgres, tmp_path: Path) -> None:
    uri, first = postgres.new_database(), tmp_path / "first" / "mlartifacts"
    (tmp_path / "run.json").write_text("{}")

    def start(root: Path) -> str:
        return start_run(uri, experiment="digits", name="run", tags={}, artifact_root=root)

    for _ in range(2):
        with MlflowTracker(uri, start(first)) as tracker:
            tracker.metrics({"loss": 1.0}, step=1)
            tracker.artifact(tmp_path / "run.json")
    run_id = tracker.run_id
    assert (first / "digits" / run_id / "artifacts" / "run.json").is_file()
    assert connect(uri).get_run(run_id).info.status == "FINISHED"
    bundle = {"sha256": "a" * 64, "uri": "s3://bundles/a"}
    assert [Versions(uri).register("digits", **bundle, run_id=run_id).version for _ in range(2)] == [1, 1]

    shutil.rmtree(first)  # as another machine sees it
    password = uri.split(":")[2].partition("@")[0]
    for use in (lambda: start(tmp_path / "second" / "mlartifacts"), lambda: run_exists(uri, run_id)):
        with pytest.raises(RegistryError, match=r"a folder of another machine; give all machines one MLflow server") as caught:
            use()
        assert password not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not first.exists()


def test_a_wrong_password_is_one_line(postgres: Postgres) -> None:
    uri = postgres.new_database().replace(postgres.password, "another")
    with pytest.raises(RegistryError, match="password authentication failed for user") as caught:
        connect(uri)
    assert "another" not in str(caught.value)
