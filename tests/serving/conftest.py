"""Real servers in processes of their own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest


@pytest.fixture(scope="session")
def plain(build: Callable[..., Path]) -> Path:
    return build()


@pytest.fixture(scope="session")
def classy(build: Callable[..., Path]) -> Path:
    return build(classes=True)


@pytest.fixture(scope="session")
def slow(build: Callable[..., Path]) -> Path:
    """One image at a time, some tenths of a second each."""
    return build(max_batch=1, loops=300, width=1024)


RUN = """
import hashlib, json, sys
from pathlib import Path
from components.core.errors import GenwrightError, StorageError
from components.serving.engine import Engine
from components.serving.following import Named, Source
from components.serving.limits import Limits
from components.serving.log import Log
from components.serving.server import serve
options = json.loads(sys.argv[2])
limits = Limits(**options.pop("limits", {}))
tokens = [hashlib.sha256(token.encode()).digest() for token in options.pop("tokens", [])]
log = Log(options.pop("log", "text"))
def load(folder):
    return Engine.load(Path(folder), threads=2)
def read(channel):
    try:
        version, folder = Path(channel).read_text().split()
    except OSError as error:
        raise StorageError(f"{channel}: {error}")
    return Named(version, folder)
if options.pop("follow", False):
    sources = [Source("digits", lambda: read(sys.argv[1]), lambda named: load(named.bundle_sha256))]
else:
    models = options.pop("models", {}) | {"digits": sys.argv[1]}
    sources = [Source(name, lambda: Named("3", ""), lambda _, at=at: load(at), follows=False) for name, at in models.items()]
try:
    serve(sources, **{"port": 0} | options, tokens=tokens, log=log, limits=limits)
except GenwrightError as error:
    sys.stderr.write(f"{error}\\n")
    sys.exit(error.exit_code)
"""


def launch(folder: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(folder), json.dumps(options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})


@dataclass
class Running:
    """A server that answers."""

    process: subprocess.Popen[str]
    url: str
    greeting: str
    token: str | None = None
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def client(self) -> httpx.Client:
        if not self.clients:
            self.clients.append(httpx.Client(base_url=self.url, timeout=60, trust_env=False))
        return self.clients[0]

    def connect(self) -> socket.socket:
        """A connection on which a test says what no client would."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=60)

    def generate(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/generate", json=body)

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what it still said."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Running]:
    process = launch(folder, **options)
    assert process.stderr is not None
    greeting = process.stderr.readline()
    found = re.search(r"http://\S+", greeting)
    try:
        assert found, greeting + process.stderr.read()
        server = Running(process, found[0], greeting + process.stderr.readline())
        yield server
        for client in server.clients:
            client.close()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    """`with start(folder, **options) as server:` runs a server of its own for one test."""
    return running


@pytest.fixture(scope="session")
def start_failing() -> Callable[..., tuple[int, str]]:
    """Runs a server that must end by itself; its exit code and standard error."""

    def run(folder: Path, **options: Any) -> tuple[int, str]:
        process = launch(folder, **options)
        try:
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        return process.returncode, said

    return run


@pytest.fixture(scope="session")
def server(plain: Path) -> Iterator[Running]:
    with running(plain) as each:
        yield each


@pytest.fixture(scope="session")
def class_server(classy: Path) -> Iterator[Running]:
    with running(classy) as each:
        yield each
