"""The way to MLflow: stores made whole, and one line for whatever goes wrong."""

import socket
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.core.addresses import without_password
from components.core.errors import RegistryError, SettingsError, StorageError
from components.registry.mlflow_store import connect
from components.registry.versions import Versions


@pytest.mark.parametrize("uri", ["", "./mlruns", "file:///tmp/mlruns", "databricks", "sqlite://", "sqlite:///:memory:"])
def test_other_stores_are_refused(uri: str) -> None:
    with pytest.raises(SettingsError, match="allowed: sqlite:///PATH, postgresql://HOST/NAME or http") as caught:
        connect(uri)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/proc"])
def test_an_unwritable_folder_is_named(folder: str) -> None:
    with pytest.raises((SettingsError, StorageError), match=folder):
        connect(f"sqlite:///{folder}/mlflow.db")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(RegistryError, match="file is not a database") as caught:
        connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_named(tracking_uri: str, versions: Versions, bundle_of: Any, run_id: str) -> None:
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as database:
        pages = database.execute("pragma page_count").fetchone()[0]
    engine = versions._client._get_registry_client().store.engine
    with engine.connect() as connection:  # SQLite's own limit: the same error as a full disk, and only for this store
        connection.exec_driver_sql(f"pragma max_page_count = {pages}")

    def fill() -> None:
        for number in range(1, 400):
            versions.register("digits", **bundle_of(number), run_id=run_id, description="long " * 900)

    with pytest.raises(StorageError, match="the disk is full; free some space"):
        fill()


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RegistryError, match=f"127.0.0.1:{port}: nothing answers there; start the MLflow") as caught:
        Versions(f"http://127.0.0.1:{port}").models()
    assert "\n" not in str(caught.value)


POSTGRES = "postgresql://genwright:s3cret@127.0.0.1:9/mlflow"


def test_a_database_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(RegistryError) as caught:
        connect(POSTGRES)
    assert str(caught.value) == (
        "postgresql://genwright:***@127.0.0.1:9/mlflow: the database driver 'psycopg2' is not installed; "
        "pip install 'genwright[postgres]'"
    )


def test_a_database_that_does_not_answer_is_named_at_once_and_without_its_password() -> None:
    pytest.importorskip("psycopg2")
    began = time.monotonic()
    with pytest.raises(
        RegistryError, match=r"genwright:\*\*\*@127.0.0.1:9/mlflow: Connection refused; check the address"
    ) as caught:
        connect(POSTGRES)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 20  # MLflow by itself takes two minutes


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:pa:ss@host:80/x", "http://user:***@host:80/x"),
        ("postgresql+psycopg2://u:p@h/n", "postgresql+psycopg2://u:***@h/n"),
        ("postgresql://u@h/n", "postgresql://u@h/n"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_a_killed_creation_leaves_no_half_store(tmp_path: Path, forks: Any) -> None:
    """What a kill in the middle of the migrations leaves is replaced, not opened."""
    (tmp_path / ".mlflow.db.new").write_bytes(b"half")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    forks.start("connect", tracking_uri=uri, together=True)  # and two processes that create it at once make one
    forks.start("connect", tracking_uri=uri)
    assert (forks.result(), forks.result()) == (0, 0)
    assert Versions(uri).models() == []
    assert not (tmp_path / ".mlflow.db.new").exists()
