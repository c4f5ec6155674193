"""A real MLflow on SQLite, copied from one template (a new store costs ten seconds), beside a real object store."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.delivery.channel import ChannelStore
from components.delivery.store import open_store
from components.registry.ledger import Ledger
from components.registry.steps import Registry
from components.registry.tracking import start_run
from components.registry.versions import Versions


@pytest.fixture(scope="session")
def template(empty_store: Path) -> Path:
    return empty_store


@pytest.fixture
def tracking_uri(template: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(template, tmp_path / 'mlflow.db')}"


@pytest.fixture
def run_id(tracking_uri: str, tmp_path: Path) -> str:
    return start_run(tracking_uri, experiment="digits", name="run", tags={"brief": "b1"}, artifact_root=tmp_path / "artifacts")


@pytest.fixture
def versions(tracking_uri: str) -> Versions:
    return Versions(tracking_uri)


@pytest.fixture(scope="session")
def template_of_three(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("three")
    versions = Versions(f"sqlite:///{shutil.copy(template, place / 'mlflow.db')}")
    for number in (1, 2, 3):
        versions.register("digits", **stored(number), run_id="")
    return place / "mlflow.db"


@pytest.fixture
def three(template_of_three: Path, tracking_uri: str) -> Versions:
    """A registry in which digits has the versions 1, 2 and 3. It replaces the empty one, before anyone has opened that."""
    shutil.copy(template_of_three, tracking_uri.removeprefix("sqlite:///"))
    return Versions(tracking_uri)


@pytest.fixture
def registry(three: Versions, tmp_path: Path) -> Registry:
    store = open_store(str(tmp_path / "store"))
    return Registry(versions=three, ledger=Ledger(store), channels=ChannelStore(store))


def stored(number: int) -> dict[str, str]:
    """What `register` is told of a stored bundle: its digest, and where it is."""
    sha256 = f"{number:064x}"
    return {"sha256": sha256, "uri": f"s3://bundles/{sha256}"}


class Forks:
    """Runs registry commands in processes of their own, each forked from one that has imported MLflow already."""

    def __init__(self, database: Path) -> None:
        command = [sys.executable, str(Path(__file__).parent / "forks.py"), f"sqlite:///{database}"]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, do: str, **options: Any) -> None:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self.server.stdin.flush()

    def result(self) -> int:
        """The exit status of the oldest command not yet asked for; negative: the signal that killed it."""
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())

    def run(self, do: str, **options: Any) -> int:
        self.start(do, **options)
        return self.result()


@pytest.fixture(scope="session")
def forks(template_of_three: Path) -> Iterator[Forks]:
    server = Forks(template_of_three)
    yield server
    assert server.server.stdin is not None
    server.server.stdin.close()
    assert server.server.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def bundle_of() -> Any:
    return stored
