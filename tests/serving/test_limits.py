"""Tokens, sizes, full queues, deadlines; and what the metrics say of them."""

import contextlib
import http.client
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from components.core.bundles import read_bundle


def test_a_token(plain: Path, start: Any) -> None:
    with start(plain, tokens=["another", "open sesame"]) as server:
        paths = ["/", "/metrics", "/v2", "/v2/models/digits"]
        for headers, status in [({}, 401), ({"Authorization": "Basic x"}, 401), ({"Authorization": "Bearer wrong"}, 403)]:
            replies = [server.client.get(path, headers=headers) for path in paths]
            replies.append(server.client.post("/v1/generate", headers=headers))
            assert [reply.status_code for reply in replies] == [status] * 5
            assert all(list(reply.json()) == ["error"] for reply in replies)
        assert server.client.get("/").headers["www-authenticate"] == "Bearer"
        assert server.client.post("/v1/generate", headers={"Authorization": "Bearer open sesame"}).status_code == 200
        assert [server.client.get(f"/v2/health/{what}").status_code for what in ("live", "ready")] == [200, 200]
        assert "Authorization: Bearer TOKEN" in server.greeting
        assert "sesame" not in server.greeting


@pytest.mark.parametrize("path", ["/v1/generate", "/v2/models/digits/infer"])
def test_a_body_that_is_too_large_is_413(plain: Path, start: Any, path: str) -> None:
    with start(plain, limits={"body_bytes": 1000, "asked_bytes": 1000}) as server:
        for content in (b" " * 1001, iter([b" " * 600] * 3)):  # with and without Content-Length
            reply = server.client.post(path, content=content)
            assert reply.status_code == 413
            assert "1000 bytes" in reply.json()["error"]
        assert server.client.post("/v1/generate", content=b" " * 998 + b"{}").status_code == 200


def test_a_compressed_body_is_415(server: Any) -> None:
    reply = server.client.post("/v1/generate", content=b"{}", headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 415


def test_a_body_that_never_ends_is_408(plain: Path, start: Any) -> None:
    with start(plain, limits={"body_s": 0.2}) as server, server.connect() as slow:
        slow.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


THREE = b'POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"count": 3}'


def status_of(client: socket.socket) -> int:
    """The status of the next reply, read to its end."""
    reply = http.client.HTTPResponse(client)
    reply.begin()
    reply.read()
    return reply.status


def test_a_head_that_never_ends_is_408(plain: Path, start: Any) -> None:
    with start(plain, limits={"head_s": 0.2}) as server:
        for sent in (b"", b"GET /v2 HTTP/1.1\r\nHost: x\r\n"):
            with server.connect() as slow:
                slow.sendall(sent)
                assert status_of(slow) == 408
                assert slow.recv(1000) == b""
        with server.connect() as kept:  # the second on a kept connection
            kept.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status_of(kept) == 200
            kept.sendall(b"GET /v2 HT")
            assert status_of(kept) == 408
        assert server.client.get("/v2").status_code == 200


def test_a_head_that_is_too_large_is_431(plain: Path, start: Any) -> None:
    with start(plain, limits={"head_bytes": 5000}) as server:
        whole = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1000 + b"\r\n"
        for endless in (b"GET /" + b"a" * 6000, whole[:-2], whole):
            with server.connect() as client:
                client.sendall(endless)
                assert status_of(client) == 431
        assert server.client.get("/v2", headers={"x": "y" * 4000}).status_code == 200


def test_connections_beyond_the_most_are_503(plain: Path, start: Any) -> None:
    with start(plain, limits={"connections": 3}) as server:
        open_ones = [server.connect() for _ in range(3)]
        with server.connect() as beyond:
            assert status_of(beyond) == 503
        for each in open_ones:
            each.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status_of(each) == 200
            each.close()
        while server.client.get("/v2/health/live").status_code != 200:  # a place is free when the server has seen them leave
            pass


def test_headers_behind_the_body_count_for_nothing(plain: Path, start: Any) -> None:
    with start(plain, tokens=["open sesame"]) as server:
        head = b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with server.connect() as client:
            client.sendall(head + b"2\r\n{}\r\n0\r\nAuthorization: Bearer open sesame\r\n\r\n")
            assert status_of(client) == 401


def test_headers_behind_the_body_end_somewhere(plain: Path, start: Any) -> None:
    with start(plain, limits={"head_bytes": 5000, "body_s": 0.3}, tokens=["open sesame"]) as server:
        head = b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        for trailer in (b"x: " + b"a" * 3000, b"x: y\r\n" * 500, b""):  # too many bytes, or too late
            with server.connect() as client:
                client.sendall(head)
                assert status_of(client) == 401  # before the body has come
                client.sendall(b"0\r\n" + trailer)
                with contextlib.suppress(ConnectionError):
                    client.sendall(trailer)
                    assert client.recv(1000) == b""


def test_a_kept_connection_that_says_nothing_more_ends(plain: Path, start: Any) -> None:
    with start(plain, limits={"keep_alive_s": 1}) as server:
        for more in (b"", b"\r\n"):
            with server.connect() as client:
                client.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
                assert status_of(client) == 200
                client.sendall(more)  # it is no request
                assert client.recv(1000) == b""


def test_half_a_head_behind_a_request_does_not_cost_its_reply(slow: Path, start: Any) -> None:
    with start(slow, limits={"head_s": 0.1}) as server, server.connect() as client:
        client.sendall(THREE + b"GET /v2 HT")
        assert status_of(client) == 200
        with contextlib.suppress(http.client.BadStatusLine):  # told, or ended before: both are right
            assert status_of(client) == 408
        assert client.recv(1000) == b""


def test_another_protocol_is_not_spoken(plain: Path, start: Any) -> None:
    with start(plain) as server:
        upgrade = {"Connection": "Upgrade", "Upgrade": "h2c"}
        assert server.client.get("/v2", headers=upgrade).status_code == 200
        reply = server.client.post("/v1/generate", content=b"{}", headers=upgrade)
        assert (reply.status_code, "without the header Upgrade" in reply.json()["error"]) == (400, True)
        with server.connect() as client:
            client.sendall(b"nonsense\r\n\r\n")
            assert status_of(client) == 400
        for target in (b"CONNECT x:443", b"GET http://x"):
            with server.connect() as client:
                client.sendall(target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert status_of(client) in (400, 404)


def test_a_client_that_does_not_read_is_let_go_and_a_slow_one_is_not(plain: Path, start: Any) -> None:
    n = 10_000  # whose numbers as JSON are more than the kernel's buffers hold
    with start(plain, limits={"body_s": 1.0, "count": n, "queued": n}) as server:
        host, port = server.url.removeprefix("http://").split(":")
        noise = {"name": "z", "shape": [n, 16], "datatype": "FP32", "parameters": {"binary_data_size": n * 64}}
        words, z = json.dumps({"inputs": [noise]}).encode(), np.random.default_rng(0).normal(size=(n, 16)).astype("<f4")
        head = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n" % (
            len(words) + n * 64
        )
        head += b"Inference-Header-Content-Length: %d\r\n\r\n" % len(words)
        for patient in (False, True):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # so that most of the reply waits in the server
                client.settimeout(60)
                client.connect((host, int(port)))
                client.sendall(head + words + z.tobytes())
                received, pause_s = b"", 0.01 if patient else 3.0
                with contextlib.suppress(ConnectionError):
                    while part := client.recv(64 << 10):
                        received += part
                        time.sleep(pause_s)
                        pause_s = min(pause_s, 0.01)
            assert received.startswith(b"HTTP/1.1 200")
            told = int(re.search(rb"content-length: (\d+)", received)[1])
            assert told > 8 << 20
            assert (len(received) > told) is patient, (len(received), told)


def test_half_a_head_that_goes_on_behind_a_request_is_not_kept(slow: Path, start: Any) -> None:
    with start(slow, limits={"head_bytes": 5000}) as server, server.connect() as client:
        client.sendall(THREE)
        client.sendall(b"GET /" + b"a" * 100_000)
        assert status_of(client) == 200
        with contextlib.suppress(ConnectionError):
            assert client.recv(1000) == b""


def test_a_full_queue_is_429_and_the_server_recovers(slow: Path, start: Any) -> None:
    with start(slow, limits={"queued": 2}) as server:

        def ask(seed: int) -> httpx.Response:
            reply: httpx.Response = server.generate(seed=seed, count=6)
            return reply

        with ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(ask, range(12)))
        refused = [reply for reply in replies if reply.status_code == 429]
        assert {reply.status_code for reply in replies} == {200, 429}
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert all("at most 2 may" in reply.json()["error"] for reply in refused)
        assert server.generate(seed=1).status_code == 200
        text = server.client.get("/metrics").text
        assert f'genwright_requests_total{{route="/v1/generate",status="429"}} {len(refused)}.0' in text


def test_an_answer_that_takes_too_long_is_503(slow: Path, start: Any) -> None:
    with start(slow, limits={"answer_s": 0.05}) as server:
        reply = server.generate(seed=1, count=6)
        assert reply.status_code == 503
        assert "retry-after" in reply.headers
        assert "0.05 s" in reply.json()["error"]


def test_a_client_may_name_a_nearer_deadline(slow: Path, start: Any) -> None:
    with start(slow) as server:
        z = {"name": "z", "datatype": "FP32", "shape": [8, 16], "data": [0.0] * 128}
        asked = {"inputs": [z], "parameters": {"timeout": 50_000}}  # microseconds
        reply = server.client.post("/v2/models/digits/infer", json=asked)
        assert reply.status_code == 503
        assert "0.05 s" in reply.json()["error"]
        assert server.client.post("/v2/models/digits/infer", json={"inputs": [z]}).status_code == 200


def test_a_client_that_leaves_frees_its_place(slow: Path, start: Any) -> None:
    with start(slow, limits={"queued": 250}) as server:
        body = b'{"count": 200}'
        with server.connect() as client:
            client.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            while 'genwright_queue_length{model="digits"} 0.0' in server.client.get("/metrics").text:
                pass
        assert server.generate(seed=1, count=2).status_code == 200
        text = server.client.get("/metrics").text
    assert 'genwright_requests_total{route="/v1/generate",status="499"} 1.0' in text
    ran = float(re.search(r'genwright_batch_size_sum\{model="digits"\} (\S+)', text)[1])
    assert ran < 100  # most of the 200 were never made


def test_metrics(classy: Path, start: Any) -> None:
    with start(classy) as server:
        server.generate(count=20)
        server.generate(count=-1)
        server.client.get("/v2/models/digits")
        server.client.get("/somewhere/else")
        reply = server.client.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    sha256 = read_bundle(classy).digest()
    for line in [
        'genwright_requests_total{route="/v1/generate",status="200"} 1.0',
        'genwright_requests_total{route="/v1/generate",status="422"} 1.0',
        'genwright_requests_total{route="model_metadata",status="200"} 1.0',
        'genwright_requests_total{route="other",status="404"} 1.0',
        'genwright_request_seconds_count{route="/v1/generate"} 2.0',
        'genwright_batch_size_sum{model="digits"} 20.0',
        'genwright_queue_length{model="digits"} 0.0',
        f'genwright_model_info{{bundle_sha256="{sha256}",family="vae",model="digits",version="3"}} 1.0',
    ]:
        assert re.search(f"^{re.escape(line)}$", reply.text, re.MULTILINE), line
    batches = re.search(r'^genwright_batch_size_count\{model="digits"\} (\S+)$', reply.text, re.MULTILINE)
    assert batches[1] in ("2.0", "3.0", "4.0", "5.0")  # 8 and 12 in two lanes; in one that is always first 8, 6, 3, 2, 1
    seen = dict(re.findall(r'^genwright_stage_seconds_count\{model="digits",stage="(\w+)"\} (\S+)$', reply.text, re.MULTILINE))
    assert seen.keys() == {"queue", "run", "encode"}
    assert seen["queue"] == seen["encode"] == "1.0"
    assert seen["run"] == batches[1]
