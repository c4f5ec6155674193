"""The door of webhooks as a process: a thousand forged, changed, late and repeated deliveries over HTTP, and none let in."""

import http.client
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core import store_keys
from components.delivery.store import open_store
from components.pipeline.receiver import BODY_MAX, PATH, Deliveries, Hints
from components.registry.webhooks import DELIVERY, SIGNATURE, TIMESTAMP, signature_of

SECRET = "the secret of these tests"
REPOSITORY = Path(__file__).parents[2]


class Door:
    """A running `genwright watch --listen`."""

    def __init__(self, home: Path, tracking: str) -> None:
        self.home, self.tracking = home, tracking
        self.start()

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_"))}
        ours = {"GENWRIGHT_HOME": str(self.home), "GENWRIGHT_TRACKING_URI": self.tracking, "GENWRIGHT_WEBHOOK_SECRET": SECRET}
        command = [sys.executable, "-m", "flows", "watch", "--listen", "127.0.0.1:0", "--every", "3600"]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=kept | ours, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("webhooks come in at http://127.0.0.1:"), line
        self.port = int(line.partition("127.0.0.1:")[2].partition("/")[0])

    def end(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGTERM)
        said, errors = self.process.communicate(timeout=30)
        return self.process.returncode, said, errors

    def post(self, headers: dict[str, str], body: bytes, path: str = PATH, method: str = "POST") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def raw(self, data: bytes, *, breaks_off: bool = False) -> int | None:
        """The status of what is sent byte by byte as it is; None where no answer comes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as line:
            line.sendall(data)
            if breaks_off:
                line.shutdown(socket.SHUT_WR)
            answer = line.recv(200)
        return int(answer.split()[1]) if answer else None

    def let_in(self) -> int:
        """How many deliveries it remembers."""
        return len(open_store(str(self.home / "store")).list(store_keys.WEBHOOK_DELIVERIES))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    found = Door(folder / "home", f"sqlite:///{folder / 'mlflow.db'}")
    yield found
    if found.process.poll() is None:
        found.end()


def body_of(model: str = "digits") -> bytes:
    data = {"name": model, "alias": "champion", "version": "3"}
    return json.dumps({"entity": "model_version_alias", "action": "created", "timestamp": "now", "data": data}).encode()


def signed(body: bytes, *, secret: str = SECRET, at_s: float | None = None) -> dict[str, str]:
    name, time_s = str(uuid.uuid4()), str(int(time.time() if at_s is None else at_s))
    return {DELIVERY: name, TIMESTAMP: time_s, SIGNATURE: signature_of(secret, name, time_s, body)}


@pytest.mark.slow
def test_of_a_thousand_that_are_forged_or_repeated_none_is_let_in(door: Door) -> None:
    rng, body, before = random.Random(0), body_of(), door.let_in()
    genuine = [(signed(body), body) for _ in range(10)]
    assert Counter(door.post(*each) for each in genuine) == {202: 10}

    def forged(kind: int) -> tuple[dict[str, str], bytes]:
        headers = signed(body)
        match kind:
            case 0:  # another secret, such as an empty one
                return signed(body, secret=secrets.token_hex(rng.randrange(32))), body
            case 1:  # a changed body
                at = rng.randrange(len(body))
                return headers, body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :]
            case 2:  # a truncated one
                return headers, body[: rng.randrange(len(body))]
            case 3:  # an old one, or one of the future
                return signed(body, at_s=time.time() + rng.choice((-1, 1)) * rng.uniform(310, 1e6)), body
            case 4:  # a signature that is cut, empty, of another version, or absent
                headers[SIGNATURE] = rng.choice(
                    ["", "v1,", headers[SIGNATURE][:-5], headers[SIGNATURE].replace("v1", "v2"), "v1,AAAA"]
                )
                return {name: value for name, value in headers.items() if value}, body
            case 5:  # a new id or time under an old signature
                other = {DELIVERY: str(uuid.uuid4())} if rng.random() < 0.5 else {TIMESTAMP: str(int(time.time()) + 1)}
                return headers | other, body
            case 6:  # the body of one under the signature of another
                return headers, body_of("faces")
            case _:  # repeated
                return rng.choice(genuine)

    kinds = [at % 8 for at in range(1000)]
    said = Counter((door.post(*forged(kind)), kind == 7) for kind in kinds)
    assert said == {(401, False): 875, (409, True): 125}
    assert door.let_in() - before == 10
    # Nor after a restart.
    code, _, errors = door.end()
    assert (code, errors) == (0, "")
    door.start()
    assert Counter(door.post(*each) for each in genuine) == {409: 10}
    assert door.let_in() - before == 10


@pytest.mark.slow
def test_what_is_no_delivery_is_answered_and_leaves_nothing(door: Door) -> None:
    before, body = door.let_in(), body_of()
    assert door.post(signed(body), body, method="GET") == 405
    assert door.post(signed(body), body, path="/") == 404
    large = b"x" * (BODY_MAX + 1)
    assert door.post(signed(large), large) == 413
    not_json = b"alias=champion"
    assert door.post(signed(not_json), not_json) == 400
    twice = signed(body)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in [*twice.items(), *twice.items()])
    assert door.raw(f"{head}{lines}\r\n".encode() + body) == 400
    once = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
    assert door.raw(f"{head}{once}\r\n".encode() + body[:-9], breaks_off=True) in (None, 400)
    chunks = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(20))
    chunked = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{once}\r\n".encode()
    assert door.raw(chunked + chunks + b"0\r\n\r\n") == 413
    for other in (b"null", b"[]", b"3", b'{"data": 1}', b'{"data": {"name": ["digits"]}}'):  # signed, and of no model
        assert door.post(signed(other), other) == 202
    assert door.let_in() - before == 5
    assert door.post(signed(body), body) == 202


def test_an_id_is_new_once_and_is_forgotten_when_its_time_is_over(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    known, now = Deliveries(store), 1_764_480_000
    assert [known.remember("a", now), known.remember("a", now), known.remember("b", now - 290)] == [True, False, True]
    known.forget(now + 300)
    assert not known.remember("a", now)
    known.forget(now + 3600)
    assert store.list(store_keys.WEBHOOK_DELIVERIES) == []


def test_hints_are_of_models_and_wake_once() -> None:
    hints = Hints()
    for _ in range(100):
        hints.put("digits")
    hints.put("faces")
    assert hints.wait(5) == {"digits", "faces"}
    began = time.monotonic()
    assert hints.wait(0.05) == set()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--listen", "8765"), "--listen 8765; allowed: HOST:PORT"),
        (("--listen", "127.0.0.1:x"), "allowed: HOST:PORT"),
        (("--register", "https://ci.example.org"), "--register needs --listen"),
        (("--json",), "--json answers once"),
        (("nothing",), "no model named 'nothing'"),
        (("--unregister",), "is a database, and only an MLflow server has webhooks"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], says: str, cli: object, home: Path) -> None:
    cli("watch", *arguments).refused(2, says)  # type: ignore[operator]


def test_without_a_secret_nothing_is_let_in(cli: object, home: Path) -> None:
    cli("watch", "--listen", "127.0.0.1:0").refused(2, "GENWRIGHT_WEBHOOK_SECRET: not set", "openssl rand -hex 32")  # type: ignore[operator]
    cli("watch", "--once", GENWRIGHT_WEBHOOK_SECRET="short").refused(2, "GENWRIGHT_WEBHOOK_SECRET")  # type: ignore[operator]
