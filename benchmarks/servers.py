"""Servers for a bench, ours and its peers, each in a process that answers; what they are asked; and the load on them.

Ours is the server of components/serving. A peer (benchmarks/peers/servers) runs in an environment of its own that uv makes from
the lines at its top.
"""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.graphs import GENWRIGHT
from benchmarks.shared import ROOT
from components.core.bundles import read_bundle
from components.runtime.contract import probe
from components.runtime.cpus import usable_cpus

REST_S = 0.5
UV = str(ROOT / ".venv" / "bin" / "uv")


@dataclass(frozen=True)
class Server:
    """A server that answers, and how long it took from its start."""

    process: "subprocess.Popen[str]"
    port: int
    ready_s: float

    @property
    def rss_mb(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss / 2**20)

    def rest(self) -> None:
        """Stop with all that it started, and take nothing of the machine while another is measured. What is still under way
        ends before: by the clock, a run that is stopped would have taken until it wakes up, and servers learn from that."""
        time.sleep(REST_S)
        for each in _family(self.process):
            each.suspend()

    def wake(self) -> None:
        for each in reversed(_family(self.process)):
            each.resume()


def server(folder: Path, *options: str) -> AbstractContextManager[Server]:
    """A bundle in a folder, as the model m."""
    command = [sys.executable, "-m", "components.serving", str(folder), "--model", "m", "--port", "0", "--log", "text", *options]
    return _started(command, {})


def champion(home: Path, model: str) -> AbstractContextManager[Server]:
    """As people start it: the champion of a model is fetched, examined and followed."""
    return _started([str(GENWRIGHT), "serve", model, "--port", "0"], {"GENWRIGHT_HOME": str(home)})


@contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Iterator[Server]:
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
    try:
        port = greeted(process)
        httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", trust_env=False).raise_for_status()
        yield Server(process, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGCONT)  # it may rest
        process.send_signal(signal.SIGTERM)
        process.wait()


def greeted(process: "subprocess.Popen[str]") -> int:
    """The port in the line by which a server says that it answers; what it says later is read and dropped."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://[^ ]*?:(\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return int(found[1])
    raise SystemExit(f"the server ended with exit code {process.wait()} before it answered")


def infer_request(folder: Path, count: int) -> dict[str, Any]:
    """A binary infer request of so many images."""
    bundle = read_bundle(folder)
    feeds = {name: np.resize(rows, (count, *rows.shape[1:])) for name, rows in probe(bundle).items()}
    types = {"float32": "FP32", "int64": "INT64"}
    inputs = [
        {"name": name, "shape": rows.shape, "datatype": types[str(rows.dtype)], "parameters": {"binary_data_size": rows.nbytes}}
        for name, rows in feeds.items()
    ]
    outputs = [{"name": bundle.output, "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body = head + b"".join(np.ascontiguousarray(rows).tobytes() for rows in feeds.values())
    return {
        "path": "/v2/models/m/infer",
        "headers": {"Inference-Header-Content-Length": str(len(head))},
        "body": base64.b64encode(body).decode(),
    }


def load(port: int, request: dict[str, Any], *, clients: int, seconds: float, rate: float | None = None) -> dict[str, Any]:
    asked = request | {"host": "127.0.0.1", "port": port, "clients": clients, "seconds": seconds, "rate": rate}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(asked)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Unanswered(Exception):
    """A peer that does not answer, and why."""


def interpreter_of(name: str, pythons: Mapping[str, str]) -> list[str]:
    """Words for uv. (Triton's Python backend brings a libpython, which not every interpreter's library agrees with.)"""
    return ["--python", pythons[name]] if name in pythons else []


@contextmanager
def peer(name: str, folder: Path, pythons: Mapping[str, str] = MappingProxyType({}), *, workers: int = 1) -> Iterator[Server]:
    """A peer that answers, on a free port and the two after it, its workers sharing the cores. Raises Unanswered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    script = script_of(name)
    command = [UV, "run", "--quiet", "--no-project", *interpreter_of(name, pythons), "--script", str(script)]
    command += [str(folder / "model.onnx"), "--port", str(port)]
    command += ["--workers", str(workers), "--threads", str(usable_cpus() // workers)]
    command += ["--batch", str(read_bundle(folder).max_batch)]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=script.parent, stdout=said, stderr=subprocess.STDOUT, start_new_session=True, text=True
        )
        try:
            request = asked_of(name, folder)
            while not answer(port, request):
                if process.poll() is not None or time.perf_counter() - began > 120:
                    said.seek(0)
                    raise Unanswered(f"{name} does not answer: {said.read()[-500:]}")
                time.sleep(0.2)
            yield Server(process, port, time.perf_counter() - began)
        finally:
            _end(process)


def _family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """It and all that it started, those in sessions of their own included. Raises psutil.NoSuchProcess."""
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def _end(process: "subprocess.Popen[str]") -> None:
    """End a peer with all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = _family(process)
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()
        process.terminate()
        for each in psutil.wait_procs(family, timeout=10)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def script_of(name: str) -> Path:
    return ROOT / "benchmarks" / "peers" / "servers" / f"{name}_server.py"


def answer(port: int, request: dict[str, Any]) -> bytes:
    """The reply to one request; nothing while there is none."""
    try:
        reply = httpx.post(
            f"http://127.0.0.1:{port}{request['path']}",
            content=base64.b64decode(request["body"]), headers=request["headers"], trust_env=False, timeout=10,
        )  # fmt: skip
    except httpx.HTTPError:
        return b""
    return reply.content if reply.status_code == 200 else b""


def asked_of(name: str, folder: Path) -> dict[str, Any]:
    """One image, as the server takes it: the protocol's binary request, or base64 in JSON where it parses JSON itself."""
    if name in ("genwright", "triton"):
        return infer_request(folder, 1)
    noise = np.concatenate([rows[:1].ravel() for rows in probe(read_bundle(folder)).values()]).astype("<f4")
    body = json.dumps({"noise": base64.b64encode(noise.tobytes()).decode()}).encode()
    return {
        "path": {"litserve": "/predict", "bentoml": "/generate"}[name],
        "headers": {"Content-Type": "application/json"},
        "body": base64.b64encode(body).decode(),
    }
