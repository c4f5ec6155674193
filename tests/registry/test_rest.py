"""The light client of an MLflow server: credentials, retries and errors are as MLflow's own client has them.

test_server.py asks both of a real server.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from components.core.errors import RegistryError, SettingsError
from components.registry import mlflow_http
from components.registry.mlflow_http import RestError, Server
from components.registry.mlflow_store import code_of, connect, light_client, translated
from components.registry.rest import RestClient


class Answering:
    """A server that gives the answers of a list, and keeps what it was sent."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.sent: list[dict[str, str]] = []
        left = [*answers]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.sent.append({"path": handler.path, **handler.headers})
                status, text = left.pop(0) if len(left) > 1 else left[0]
                handler.send_response(status)
                if status == 302:
                    handler.send_header("Location", text)
                handler.send_header("Content-Length", str(len(text.encode())))
                handler.end_headers()
                handler.wfile.write(text.encode())

            def log_message(handler, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Answering]]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    started: list[Answering] = []

    def start(*answers: tuple[int, str]) -> Answering:
        started.append(Answering(*answers))
        Thread(target=started[-1].server.serve_forever, args=(0.01,), daemon=True).start()
        return started[-1]

    yield start
    for each in started:
        each.server.shutdown()
        each.server.server_close()


@pytest.mark.parametrize(
    ("variables", "file", "header"),
    [
        ({}, "", None),
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "pä"}, "", "Basic YWRhOnDDpA=="),
        ({"MLFLOW_TRACKING_USERNAME": "ada"}, "", None),
        ({"MLFLOW_TRACKING_TOKEN": "secret"}, "", "Bearer secret"),
        ({"MLFLOW_TRACKING_TOKEN": "x"}, "mlflow_tracking_username = bob\nmlflow_tracking_password = b", "Basic Ym9iOmI="),
        ({"MLFLOW_TRACKING_USERNAME": "ada"}, "mlflow_tracking_username = bob\nmlflow_tracking_password = b", "Basic YWRhOmI="),
    ],
)
def test_who_asks_is_told_as_mlflow_tells_it(
    variables: dict[str, str],
    file: str,
    header: str | None,
    answering: Callable[..., Answering],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if file:
        (tmp_path / ".mlflow").mkdir()
        (tmp_path / ".mlflow" / "credentials").write_text(f"[mlflow]\n{file}\n")
    to = answering((200, "{}"))
    assert Server(f"{to.address}/below/").ask("GET", "runs/get", {"run_id": "a&b", "nothing": None}) == {}
    assert to.sent[0].get("Authorization") == header
    assert to.sent[0]["path"] == "/below/api/2.0/mlflow/runs/get?run_id=a%26b"
    with suppress(Exception):
        connect(f"{to.address}/below/").get_run("0")
    assert to.sent[-1].get("Authorization") == header  # as MLflow's own client


@pytest.mark.parametrize(
    "answers",
    [
        [(503, "busy")] * 4,
        [(502, "busy"), (200, '{"run": {"info": {}, "data": {}}}')],
        [(401, "who are you?")],
        [(404, "<html>no such page</html>")],
        [(403, '{"error_code": "PERMISSION_DENIED", "message": "not you"}')],
        [(400, '{"error_code": "400", "message": "of a proxy"}')],
        [(418, "{}")],
        [(200, "a page that welcomes")],
    ],
)
def test_errors_are_those_of_mlflows_client(
    answers: list[tuple[int, str]], answering: Callable[..., Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    heard: list[Any] = []
    for client_of in (connect, light_client):
        to = answering(*answers)
        try:
            with translated("it"):
                client_of(to.address).get_run("0")
            heard.append(("", "", len(to.sent)))
        except (RegistryError, KeyError) as error:
            text = str(error).replace(to.address, "ADDRESS") if isinstance(error, RegistryError) else ""
            code = code_of(error) if isinstance(error, RegistryError) else ""
            heard.append((text, code, len(to.sent)))
    assert heard[1] == heard[0]


def test_what_cannot_be_used_is_said_in_one_line(answering: Callable[..., Answering], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MLFLOW_HTTP_REQUEST_TIMEOUT": "soon", "MLFLOW_TRACKING_INSECURE_TLS": "maybe"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(SettingsError, match=f"{name}: '{value}'"):
                light_client("http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=re.escape("127.0.0.1:1: nothing answers there")), translated("http://127.0.0.1:1"):
        light_client("http://127.0.0.1:1").get_run("0")
    to = answering((302, "/elsewhere"), (200, '{"at": 1}'))
    assert Server(to.address).ask("GET", "runs/get", {}) == {"at": 1}
    monkeypatch.setenv("MLFLOW_ALLOW_HTTP_REDIRECTS", "false")
    with pytest.raises(RestError, match="failed with error code 302"):
        Server(answering((302, "/elsewhere")).address).ask("GET", "runs/get", {})


@pytest.mark.parametrize("name", mlflow_http.BEYOND)
def test_mlflows_own_client_does_what_is_not_done_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(light_client("http://127.0.0.1:1"), RestClient)
    monkeypatch.setenv(name, "true")
    assert not mlflow_http.is_enough()
