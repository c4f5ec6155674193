"""The process: how it starts, refuses to start, and stops."""

import hashlib
import io
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from components.core.bundles import read_bundle
from components.serving.server import listen


def test_it_says_what_it_serves(server: Any, plain: Path) -> None:
    sha256 = read_bundle(plain).digest()
    assert re.match(rf"serving digits v3 \(bundle {sha256[:12]}\) on http://127\.0\.0\.1:\d+\n", server.greeting)
    command = server.greeting.split("try: ")[1].strip()
    done = subprocess.run(["sh", "-c", command.replace("-o digits.png", "-sS -o -")], capture_output=True, check=True)
    assert done.stdout.startswith(b"\x89PNG")


def test_replies_are_not_held_back() -> None:
    # asyncio sets TCP_NODELAY on what it accepts only when the listener names its protocol.
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_busy_port(plain: Path, start_failing: Callable[..., tuple[int, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = start_failing(plain, port=port)
    assert code == 1
    assert said == f"port {port} of 127.0.0.1 is taken; choose another with --port, or stop what uses it (lsof -i :{port})\n"


def test_a_host_that_is_not_here(plain: Path, start_failing: Callable[..., tuple[int, str]]) -> None:
    for host in ("203.0.113.1", "no-such-host.invalid"):
        code, said = start_failing(plain, host=host)
        assert (code, said.count("\n")) == (1, 1)
        assert host in said


def test_a_tampered_bundle(plain: Path, tmp_path: Path, start_failing: Callable[..., tuple[int, str]]) -> None:
    shutil.copytree(plain, tmp_path / "bundle")
    data = bytearray((tmp_path / "bundle" / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bundle" / "model.onnx").write_bytes(data)
    code, said = start_failing(tmp_path / "bundle")
    assert (code, said.count("\n")) == (1, 1)
    assert "model.onnx: its SHA-256 is" in said


def test_no_bundle(tmp_path: Path, start_failing: Callable[..., tuple[int, str]]) -> None:
    assert start_failing(tmp_path / "absent") == (1, f"{tmp_path / 'absent'}: no such bundle folder\n")


def test_sigterm_finishes_what_is_under_way(slow: Path, start: Any) -> None:
    with start(slow) as server:
        first = np.load(io.BytesIO(server.generate(seed=5, format="npy").content))[0]
        replies: list[httpx.Response] = []
        clients = [
            threading.Thread(
                target=lambda: replies.append(
                    httpx.post(
                        f"{server.url}/v1/generate", json={"seed": 5, "count": 6, "format": "npy"}, timeout=60, trust_env=False
                    )
                )
            )
            for _ in range(2)
        ]
        for client in clients:
            client.start()
        while "genwright_requests_under_way 3.0" not in server.client.get("/metrics").text:  # the two, and this one
            pass
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 10
        while (ready := server.client.get("/v2/health/ready")).status_code == 200 and time.monotonic() < until:
            pass
        assert (ready.status_code, ready.json()) == (503, {"ready": False})  # a probe hears it before the door is closed
        assert server.client.get("/v2/health/live").status_code == 200
        assert server.process.communicate(timeout=60)[1] == ""
        assert server.process.returncode == 0
        for client in clients:
            client.join()
    assert [reply.status_code for reply in replies] == [200, 200]
    assert all(reply.headers["x-seed"] == "5..10" for reply in replies)
    assert all(np.array_equal(np.load(io.BytesIO(reply.content))[0], first) for reply in replies)


@pytest.mark.parametrize(("option", "name"), [("--model", "a/b"), ("--model", "模型"), ("--version", "x\r\nSet-Cookie: y")])
def test_a_name_that_is_no_part_of_an_address_is_refused(plain: Path, option: str, name: str) -> None:
    command = [sys.executable, "-m", "components.serving", str(plain), "--port", "0", option, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "allowed: letters, digits" in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_bundle_that_was_not_admitted_is_refused(build: Any) -> None:
    check = {"check": "finite", "passed": False, "text": "the weights 'K' hold NaN"}
    verdict = {"verdict": "fail", "device": "cpu", "checks": [check], "runtime": "1.23.2"}
    command = [sys.executable, "-m", "components.serving", str(build(changes={"admission": verdict})), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "is not admitted: finite: the weights 'K' hold NaN" in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_sigint_ends_quietly(plain: Path, start: Any) -> None:
    with start(plain) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.communicate(timeout=60)[1] == ""
        assert server.process.returncode == 0


def test_it_needs_no_torch(classy: Path) -> None:
    code = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from components.serving.app import Service, fixed
from components.serving.engine import Engine
import components.serving.server
service = Service()
service.add(fixed("m", "1", Engine.load(Path(sys.argv[1]))))
with TestClient(service.app) as client:
    assert client.post("/v1/generate", json={"count": 2, "format": "grid"}).status_code == 200
heavy = {"torch", "mlflow", "lightning", "diffusers", "onnx", "sklearn", "scipy", "prefect", "boto3", "matplotlib"}
ours = [name for name in sys.modules if name.startswith("components.families") or name == "components.core.family"]
print(sorted(heavy & set(sys.modules)) + ours)
"""
    done = subprocess.run([sys.executable, "-c", code, str(classy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_bundle_is_served_by_its_folder_alone(plain: Path) -> None:
    """As a container does, behind a token that it knows the digest of."""
    digest = hashlib.sha256(b"sesame").hexdigest()
    command = [sys.executable, "-m", "components.serving", str(plain), "--port", "0", "--log", "text", "--token-sha256", digest]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = re.search(r"http://\S+", process.stderr.readline())
            assert url
            asked = {"url": f"{url[0]}/v1/generate", "json": {"seed": 1}, "trust_env": False, "timeout": 60}
            assert httpx.post(**asked).status_code == 401
            assert httpx.post(**asked, headers={"Authorization": "Bearer sesame"}).status_code == 200
        finally:
            process.terminate()
        assert process.wait(60) == 0
