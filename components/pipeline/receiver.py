"""The HTTP door of `genwright watch`: MLflow's webhooks come in, and wake who looks at the registry.

A webhook is a hint and no more: what is done is decided from the registry itself. So the worst that an authentic delivery can do
is to have a model looked at. One that is forged, changed, late or delivered before does not do even that. The ids of deliveries
are remembered in the store, so that a restart or another receiver does not let one in again.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from components.core import store_keys
from components.core.errors import GenwrightError, ServingError
from components.core.stores import ObjectStore
from components.registry.webhooks import WINDOW_S, Forged, check
from components.serving.server import listen

PATH = "/webhooks/mlflow"
BODY_MAX = 64 * 1024  # bytes; MLflow's are below 6,000
BODY_S = 10.0  # for a body to come in
CONNECTIONS = 64
START_S = 10.0
MINUTE_S = 60
KEPT_S = 2 * WINDOW_S + MINUTE_S  # of an id: no delivery of its time is let in any more

Say = Callable[[str], None]


class Hints:
    """Models that should be looked at, and who waits for them."""

    def __init__(self) -> None:
        self._models: set[str] = set()
        self._told = threading.Condition()

    def put(self, model: str) -> None:
        with self._told:
            self._models.add(model)
            self._told.notify_all()

    def wait(self, timeout_s: float) -> set[str]:
        """Those that were named since; empty when the time is over."""
        with self._told:
            self._told.wait_for(lambda: self._models, timeout_s)
            found, self._models = self._models, set()
            return found


class Deliveries:
    """The ids that were let in, in the store, by the minute of their time."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def remember(self, delivery: str, at_s: int) -> bool:
        """Whether it is new. Raises StorageError."""
        digest = hashlib.sha256(delivery.encode()).hexdigest()
        return self._store.put_if_absent(store_keys.webhook_delivery(at_s // MINUTE_S, digest), b"")

    def forget(self, now_s: float) -> None:
        """Remove what is too old to be delivered again. Raises StorageError."""
        for key in self._store.list(store_keys.WEBHOOK_DELIVERIES):
            minute = key.removeprefix(store_keys.WEBHOOK_DELIVERIES).partition("/")[0]
            if minute.isdecimal() and int(minute) * MINUTE_S < now_s - KEPT_S:
                self._store.delete(key)


class Receiver:
    """An ASGI application with one address."""

    def __init__(self, secret: str, store: ObjectStore, hints: Hints, *, clock: Callable[[], float] = time.time) -> None:
        self._secret, self._deliveries, self._hints, self._clock = secret, Deliveries(store), hints, clock

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        assert scope["type"] == "http"
        try:
            if scope["path"] != PATH:
                raise Forged("not found", 404)
            if scope["method"] != "POST":
                raise Forged("POST alone is answered", 405)
            headers = _headers(scope)
            body = await asyncio.wait_for(_body(receive, headers), BODY_S)
            self._let_in(await asyncio.to_thread(self._checked, headers, body))
            status, said = 202, "a model is looked at"
        except Forged as refused:
            status, said = refused.status, str(refused)
        except TimeoutError:
            status, said = 408, "the body does not come"
        except GenwrightError:  # the store is away: MLflow tries again
            status, said = 503, "it cannot be remembered now"
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain; charset=utf-8")]}
        )
        await send({"type": "http.response.body", "body": said.encode() + b"\n"})

    def _checked(self, headers: Mapping[str, str], body: bytes) -> Any:
        """The document of a delivery that is authentic and new. Raises Forged, StorageError."""
        delivery = check(headers, body, secret=self._secret, now_s=self._clock())
        try:
            document = json.loads(body)
        except ValueError as error:
            raise Forged("no JSON", 400) from error
        if not self._deliveries.remember(delivery, int(headers["x-mlflow-timestamp"])):
            raise Forged("it was delivered before", 409)
        return document

    def _let_in(self, document: Any) -> None:
        data = document.get("data") if isinstance(document, dict) else None
        name = data.get("name") if isinstance(data, dict) else None
        if isinstance(name, str):
            self._hints.put(name)


def _headers(scope: Any) -> dict[str, str]:
    """By their names. Of two of one name it is not known which was signed. Raises Forged."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        known = name.decode("latin-1").lower()
        if known in found:
            raise Forged(f"two headers {known[:40]}", 400)
        found[known] = value.decode("latin-1")
    return found


async def _body(receive: Callable[[], Awaitable[Any]], headers: Mapping[str, str]) -> bytes:
    """The body. Raises Forged for one that is too long, or ends before it is there."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > BODY_MAX:
        raise Forged(f"more than {BODY_MAX} bytes", 413)
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Forged("it broke off", 400)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_MAX:
            raise Forged(f"more than {BODY_MAX} bytes", 413)
    return body


@contextmanager
def receiving(host: str, port: int, receiver: Receiver) -> Iterator[int]:
    """A server in a thread until the block ends; its port. Raises ServingError."""
    listener = listen(host, port)
    config = uvicorn.Config(
        receiver, log_config=None, log_level="critical", access_log=False, server_header=False, proxy_headers=False, ws="none",
        lifespan="off", limit_concurrency=CONNECTIONS, timeout_keep_alive=5, timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="webhooks", daemon=True)
    thread.start()
    try:
        until = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > until:
                raise ServingError(f"{host}:{port}: the receiver of webhooks did not start")
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(5)
        listener.close()
