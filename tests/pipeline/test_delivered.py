"""A real MLflow server delivers its webhooks to `genwright watch`: what a hand moves is undone, what it approves is promoted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from servers import free_ports, mlflow_server

from components.core.errors import RegistryError
from components.pipeline.backends import Backends
from components.pipeline.release_commands import bundle_of
from components.registry.mlflow_store import connect
from components.registry.state import look
from components.registry.webhooks import NAME, Webhooks
from flows.settings import Settings

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).parents[2]
SECRET = "a secret of the team"
ALLOWED = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}


def settle(backends: Backends, version: int, limit_s: float = 30) -> float:
    """Seconds until alias, ledger and channel agree on a version."""
    began = time.monotonic()
    while time.monotonic() < began + limit_s:
        state = look(backends.registry, "digits")
        if (state.name, state.alias) == ("settled", version) and state.channel and state.channel.version == version:
            return time.monotonic() - began
        time.sleep(0.05)
    raise AssertionError(f"{state.name}, {state.alias} after {limit_s} s")


def test_mlflow_delivers_and_the_registry_decides(home: Path, registered_as: Any, tmp_path: Path) -> None:
    local = Backends(Settings(home=home))
    one = local.versions.get("digits", 1)
    _, bundle = bundle_of(one, local)
    gates = bundle.gates.model_copy(update={"champion": one.bundle_sha256})
    for verdict in ("fail", "pass"):
        registered_as("digits", gates=gates.model_copy(update={"verdict": verdict}))
    own = {**ALLOWED, "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode()}
    (tmp_path / "server").mkdir()
    with mlflow_server(tmp_path / "server", f"sqlite:///{home / 'mlflow.db'}", str(tmp_path / "files"), **own) as server:
        _watched(server, home)


def _watched(server: str, home: Path) -> None:
    told = {"GENWRIGHT_HOME": str(home), "GENWRIGHT_TRACKING_URI": server, "GENWRIGHT_ACTOR": "watcher"}
    told |= {"GENWRIGHT_HAND_MOVES": "proved", "GENWRIGHT_REQUIRED_TAG": "approved", "GENWRIGHT_WEBHOOK_SECRET": SECRET}
    backends = Backends(Settings(home=home, tracking_uri=server))
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "flows", "watch", "--listen", f"127.0.0.1:{port}", "--every", "3600"]
    command += ["--register", f"http://127.0.0.1:{port}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_"))}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=kept | told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
        assert said[1] == f"MLflow calls http://127.0.0.1:{port}/webhooks/mlflow, and reaches it\n", said
        client = connect(server)
        time.sleep(3)  # its first look, and MLflow's list of webhooks, which it keeps for a second
        # A hand makes a version champion whose gates failed: it is undone.
        client.set_registered_model_alias("digits", "champion", "2")
        undone = settle(backends, 1)
        entry = backends.registry.ledger.entries("digits")[-1]
        assert (entry.action, entry.evidence) == ("restore", {"undone": 2})
        # One whose gates passed lacks the tag, so it is undone too; with the tag it is promoted.
        client.set_registered_model_alias("digits", "champion", "3")
        time.sleep(0.5)
        settle(backends, 1)
        client.set_model_version_tag("digits", "3", "approved", "yes")
        promoted = settle(backends, 3)
        print(json.dumps({"undone_s": undone, "promoted_s": promoted}))
        assert max(undone, promoted) < 10
        assert backends.registry.ledger.entries("digits")[-1].why == "every gate passed, and the tag approved was set in MLflow"
        # Asked again, there still is one webhook; and then none.
        webhooks = Webhooks(server)
        webhooks.register(f"http://127.0.0.1:{port}/webhooks/mlflow", SECRET)
        assert [each.name for each in client.list_webhooks()] == [NAME]
        assert webhooks.unregister() == 1
        assert [*client.list_webhooks()] == []
    finally:
        process.send_signal(signal.SIGTERM)
        said_last, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "digits: the alias champion was on version 2, whose gates say fail" in said_last
    assert said_last.endswith("genwright watch has ended\n")


def test_what_the_server_does_not_allow_says_what_to_set(first: Any, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes((first.left / "mlflow.db").read_bytes())
    with mlflow_server(tmp_path, f"sqlite:///{database}", str(tmp_path / "files")) as address:
        with pytest.raises(RegistryError, match="MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https where MLflow's server runs"):
            Webhooks(address).register("http://127.0.0.1:1/webhooks/mlflow", SECRET)
        with pytest.raises(RegistryError, match="MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true where MLflow's server runs"):
            Webhooks(address).register("https://127.0.0.1:1/webhooks/mlflow", SECRET)
