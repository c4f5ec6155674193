"""A home made before trainings were kept in the store: what it released goes on, what needs its training is refused in one line.

Laid out as `genwright produce` at commit 70d06e4 left it: bundles, ledger and channel in the store, versions in MLflow, and the
stages' records in folders of the home, which nothing reads any more.
"""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from servers import free_ports

from components.pipeline.backends import Backends
from components.pipeline.existing import find_existing_result
from components.pipeline.release_commands import bundle_of, promote
from components.pipeline.resolve import resolve
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command

REFUSED = "made by an earlier genwright, which kept its training out of the store; produce its brief again"


@pytest.fixture
def older(home: Path, registered_as: Any) -> Path:
    """Two versions of `digits` whose bundles name no run, the second one champion, and no stage record in the store."""
    backends = Backends(Settings(home=home, actor="tester"))
    _, bundle = bundle_of(backends.versions.resolve("digits/1"), backends)
    lineage = bundle.lineage.model_copy(update={"run_key": None})
    for run_id in ("", lineage.run_id):  # two bundles
        release = registered_as("digits", lineage=lineage.model_copy(update={"run_id": run_id}))
        promote(f"digits/{release.version}", backends, force=True, why="an older one")
    backends.versions._client.delete_model_version("digits", "1")
    for folder in ("runs", "artifacts", "extractors", "leases"):
        shutil.rmtree(home / "store" / folder, ignore_errors=True)
    left = home / "work" / "digits" / "4c9b88e64387ab85"
    (left / "train").mkdir(parents=True)
    (left / "produced.json").write_text(json.dumps({"run_key": left.name, "folder": str(left)}))
    return home


def test_its_releases_are_explained_rolled_back_and_promoted(cli: "Command", older: Path) -> None:
    entries = cli("history", "digits", "--json").json()
    assert [entry["to_version"] for entry in entries] == [1, 2, 3]
    assert cli("explain", "digits", "--json").json()["lineage"]["run_key"] is None
    assert "digits version 2 is champion now" in cli("rollback", "digits").out
    assert "digits version 2 is champion already" in cli("reconcile", "digits").out
    assert "digits version 3 is champion now" in cli("promote", "digits/3", "--force", "--why", "back").out


def test_what_needs_its_training_is_refused_in_one_line(cli: "Command", older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("latent", "traverse", "digits").refused(1, "digits version 3", REFUSED)
    monkeypatch.setattr("components.training.distillation.student_variant", lambda *_: "ect")  # of a VAE there is none
    cli("distil", "digits").refused(1, "digits version 3", REFUSED)


def test_its_next_production_is_a_new_one_beside_its_champion(older: Path, first: Any) -> None:
    from components.pipeline.existing import rival_of

    backends = Backends(Settings(home=older))
    run = resolve(first.road.brief(), backends)
    assert find_existing_result(run, backends) is None
    assert rival_of(run, backends) == backends.versions.resolve("digits").bundle_sha256


@pytest.mark.slow
def test_it_is_served_and_produced_again(older: Path, first: Any) -> None:
    (port,) = free_ports(1)
    environment = first.road.variables(GENWRIGHT_HOME=str(older))
    command = [sys.executable, "-m", "flows", "serve", "digits", "--port", str(port)]
    server = subprocess.Popen(command, cwd=older, env=environment, stderr=subprocess.PIPE)
    try:
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=60, trust_env=False) as client:
            while True:
                assert server.poll() is None
                try:
                    if client.get("/v2/health/ready").is_success:
                        break
                except httpx.TransportError:
                    continue
            assert client.post("/v1/generate", json={"seed": 1}).content.startswith(b"\x89PNG")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    ran = first.road.cli("produce", str(first.road.write(first.road.brief(), "older.yaml")), GENWRIGHT_HOME=str(older))
    assert ran.returncode == 0, ran.stderr
    assert "digits version 4, promoted" in ran.stdout
    ran = first.road.cli("latent", "traverse", "digits", "--out", str(older / "w.png"), GENWRIGHT_HOME=str(older))
    assert ran.returncode == 0, ran.stderr
