"""Real servers in processes of their own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

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


class Forge:
    """Starts servers as forks of one process that has imported all they need: a second less for each."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("forks.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **job: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def launch(self, folder: Path, **options: Any) -> "Forked":
        with TemporaryDirectory() as pipes:
            path = Path(pipes) / "stderr"
            os.mkfifo(path)
            pid = self.ask(bundle=str(folder), options=options, stderr=str(path))
            return Forked(self, pid, path.open())

    def close(self) -> None:
        self.process.communicate()


@dataclass
class Forked:
    """A server that was forked, as subprocess.Popen would show it."""

    forge: Forge
    pid: int
    stderr: IO[str]
    returncode: int | None = None

    def poll(self, timeout_s: float = 0.0) -> int | None:
        if self.returncode is None:
            self.returncode = self.forge.ask(wait=self.pid, timeout_s=timeout_s)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def communicate(self, *, timeout: float) -> tuple[None, str]:
        """What it still writes until it ends. Raises TimeoutExpired where it does not end."""
        said: list[str] = []
        reading = threading.Thread(target=lambda: said.append(self.stderr.read()))
        reading.start()
        ended = self.poll(timeout)
        reading.join(1.0)
        if ended is None:
            raise subprocess.TimeoutExpired("a server", timeout)
        return None, "".join(said)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.poll(60.0)


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    forge = Forge()
    yield forge
    forge.close()


@dataclass
class Running:
    """A server that answers."""

    process: Forked
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
        return int(self.process.returncode or 0), said


@contextmanager
def running(forge: Forge, folder: Path, **options: Any) -> Iterator[Running]:
    process = forge.launch(folder, **options)
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
        process.stderr.close()


@pytest.fixture(scope="session")
def start(forge: Forge) -> Callable[..., Any]:
    """`with start(folder, **options) as server:` runs a server of its own for one test."""
    return partial(running, forge)


@pytest.fixture(scope="session")
def start_failing(forge: Forge) -> Callable[..., tuple[int, str]]:
    """Runs a server that must end by itself; its exit code and standard error."""

    def run(folder: Path, **options: Any) -> tuple[int, str]:
        process = forge.launch(folder, **options)
        try:
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        return int(process.returncode or 0), said

    return run


@pytest.fixture(scope="session")
def server(start: Any, plain: Path) -> Iterator[Running]:
    with start(plain) as each:
        yield each


@pytest.fixture(scope="session")
def class_server(start: Any, classy: Path) -> Iterator[Running]:
    with start(classy) as each:
        yield each
