"""What a connection says and notices, byte by byte."""

import http.client
import json
import re
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pytest

from components.serving.connection import Send

ASK = b"GET /v2 HTTP/1.1\r\nHost: x\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    """A request for images."""
    lines = [b"POST /v1/generate HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def read(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Head and body of the next reply."""
    head = b"".join(iter(stream.readline, b"\r\n"))
    return head, stream.read(int(re.search(rb"content-length: (\d+)", head)[1]))


def test_head_and_body_come_together(server: Any) -> None:
    with server.connect() as client:
        client.sendall(ASK + b"\r\n")
        reply = client.recv(65536)
    head, body = reply.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: %d\r\n" % len(body) in head
    assert json.loads(body)["name"] == "genwright"


def test_head_tells_of_a_body_that_it_leaves_out(server: Any) -> None:
    with server.connect() as client:
        client.sendall(ASK.replace(b"GET", b"HEAD") + b"\r\n" + ASK + b"\r\n")
        received = b""
        while not received.endswith(b"}"):
            received += client.recv(65536)
    first, second, body = received.split(b"\r\n\r\n")
    length = b"content-length: %d" % len(body)
    assert (first.count(length), second.count(length)) == (1, 1)


@pytest.mark.parametrize(
    ("version", "header", "stays"),
    [
        ("1.1", b"", True),
        ("1.1", b"Connection: close\r\n", False),
        ("1.0", b"", False),
        ("1.0", b"Connection: keep-alive\r\n", False),  # uvicorn keeps none of these
    ],
)
def test_a_connection_is_kept_where_that_was_asked_for(server: Any, version: str, header: bytes, stays: bool) -> None:
    with server.connect() as client:
        client.sendall(ASK.replace(b"1.1", version.encode()) + header + b"\r\n")
        head, _ = read(client.makefile("rb"))
        assert (b"\r\nconnection: close\r\n" in head) is not stays
        if stays:
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
        else:
            assert client.recv(1) == b""


def test_a_body_that_waits_to_be_asked_for(server: Any) -> None:
    body = b'{"count": 1, "format": "npy"}'
    with server.connect() as client:
        client.sendall(post(body, b"Expect: 100-continue").removesuffix(body))
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert read(client.makefile("rb"))[0].startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_that_do_not_wait_for_replies_are_answered_in_order(server: Any) -> None:
    asked = [{"count": 1, "seed": seed, "format": "npy"} for seed in range(5)]
    with server.connect() as client:
        client.sendall(b"".join(post(json.dumps(each).encode()) for each in asked))
        stream = client.makefile("rb")
        found = [read(stream)[1] for _ in asked]
    assert found == [server.generate(**each).content for each in asked]


def test_a_client_that_leaves_behind_a_large_body_is_noticed(slow: Path, start: Any) -> None:
    with start(slow, limits={"count": 1000, "queued": 1000}) as server:
        inputs = server.client.get("/v2/models/digits").json()["inputs"]
        rows = np.zeros((200, *inputs[0]["shape"][1:]), "<f4")
        parameters = {"binary_data_size": rows.nbytes}
        asked = {"inputs": [{"name": inputs[0]["name"], "datatype": "FP32", "shape": rows.shape, "parameters": parameters}]}
        message = json.dumps(asked).encode().ljust(100_000)  # reading stops behind so much
        client = http.client.HTTPConnection(server.url.removeprefix("http://"))
        client.putrequest("POST", "/v2/models/digits/infer")
        client.putheader("Content-Length", str(len(message) + rows.nbytes))
        client.putheader("Inference-Header-Content-Length", str(len(message)))
        client.endheaders()
        assert client.sock is not None
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        time.sleep(0.2)  # until the body is awaited
        server.process.send_signal(signal.SIGSTOP)
        client.send(message + rows.tobytes())
        time.sleep(0.2)
        server.process.send_signal(signal.SIGCONT)  # which is read at once
        while 'genwright_queue_length{model="digits"} 0.0' in server.client.get("/metrics").text:
            pass
        client.close()
        assert server.generate(seed=1, count=2).status_code == 200
        text = server.client.get("/metrics").text
    assert 'genwright_requests_total{route="infer",status="499"} 1.0' in text
    ran = float(re.search(r'genwright_batch_size_sum\{model="digits"\} (\S+)', text)[1])
    assert ran < 100  # most of the 200 were never made


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\nb", b"a\rb"])
def test_a_header_with_a_line_break_is_not_sent(value: bytes) -> None:
    send = Send(SimpleNamespace(keep_alive=True))
    assert send.head_of(200, [(b"x-name", b"ab")]) == b"HTTP/1.1 200 OK\r\nx-name: ab\r\n\r\n"
    with pytest.raises(ValueError, match="line break"):
        send.head_of(200, [(b"x-name", value)])
