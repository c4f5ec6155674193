"""A home made before trainings were kept in the store: what it released goes on, what needs its training is refused in one line.

It is one that `genwright produce` at commit 70d06e4 left (data/README.md): bundles, ledger and channel in the store, versions in
MLflow, and the stages' records in folders of the home, which nothing reads any more.
"""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from roads import unpack_older_home
from servers import free_ports

from components.core.bundles import BUNDLE_JSON
from components.core.records import ClassCondition
from components.pipeline.backends import Backends
from components.pipeline.existing import find_existing_result
from components.pipeline.release_commands import bundle_of
from components.pipeline.resolve import resolve
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command

REFUSED = "made by an earlier genwright, which kept its training out of the store; produce its brief again"


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: "Command") -> Path:
    """Two versions of `digits` with bundles of format 1: the first without a condition, the second by class and champion."""
    home = unpack_older_home(tmp_path)
    monkeypatch.setenv("GENWRIGHT_HOME", str(home))
    monkeypatch.setenv("GENWRIGHT_ACTOR", "tester")
    return home


def test_its_bundles_are_of_format_1_and_stay_what_they_were(older: Path) -> None:
    backends = Backends(Settings(home=older))
    for version, condition in ((1, None), (2, ClassCondition(classes=tuple("0123456789")))):
        release = backends.versions.resolve(f"digits/{version}")
        written = (older / "store" / "bundles" / release.bundle_sha256 / BUNDLE_JSON).read_bytes()
        assert {"format", "graphs"} & {*json.loads(written)} == {"format"}
        folder, bundle = bundle_of(release, backends)
        assert (folder / BUNDLE_JSON).read_bytes() == written
        assert hashlib.sha256(written).hexdigest() == release.bundle_sha256
        assert (bundle.format, bundle.spec.item.text, bundle.spec.condition) == (1, "8x8x1", condition)


def test_its_releases_are_explained_rolled_back_and_promoted(cli: "Command", older: Path) -> None:
    entries = cli("history", "digits", "--json").json()
    assert [entry["to_version"] for entry in entries] == [1, 2]
    assert cli("explain", "digits", "--json").json()["lineage"]["run_key"] is None
    assert "digits version 1 is champion now" in cli("rollback", "digits").out
    assert "digits version 1 is champion already" in cli("reconcile", "digits").out
    assert "digits version 2 is champion now" in cli("promote", "digits/2").out  # its gates passed beside version 1


def test_what_needs_its_training_is_refused_in_one_line(cli: "Command", older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("latent", "traverse", "digits").refused(1, "digits version 2", REFUSED)
    monkeypatch.setattr("components.training.distillation.student_variant", lambda *_: "ect")  # of a VAE there is none
    cli("distil", "digits").refused(1, "digits version 2", REFUSED)


def test_its_next_production_is_a_new_one_beside_its_champion(older: Path, first: Any) -> None:
    from components.pipeline.existing import rival_of

    backends = Backends(Settings(home=older))
    run = resolve(first.road.brief(), backends)
    assert find_existing_result(run, backends) is None
    assert rival_of(run, backends) == backends.versions.resolve("digits").bundle_sha256


@pytest.mark.slow
def test_it_is_served_and_produced_again(older: Path, first: Any, cli: "Command", trains_here: Any) -> None:
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
                    time.sleep(0.1)
            assert client.post("/v1/generate", json={"seed": 1, "condition": "3"}).content.startswith(b"\x89PNG")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    with trains_here():
        said = cli("produce", first.road.write(first.road.brief(), "older.yaml"), GENWRIGHT_HOME=older)
    assert said.code == 0, said.err
    assert "digits version 3, promoted" in said.out
    assert cli("latent", "traverse", "digits", "--out", older / "w.png", GENWRIGHT_HOME=older).code == 0
