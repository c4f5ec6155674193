"""A load generator: raw HTTP/1.1 over kept connections on uvloop, so that the clients cost little beside the server.

    python -m benchmarks.load '{"host": "127.0.0.1", "port": 8000, "path": "/...", "body": "BASE64", "clients": 8, "seconds": 5}'

prints the requests' seconds and statuses as JSON, with "lost" for a connection that ended before its reply. In a process of its
own, for the server's sake. `rate` (a second) sends on a clock instead of as fast as the replies come: then seconds count from
when a request was due, a request whose client still waits is sent late, and "behind_s" is the latest of them. SIGINT ends it
earlier.
"""

import asyncio
import base64
import json
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

RETRY_S = 0.01  # from a lost connection to the next try


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    behind_s: float = 0.0

    def add(self, status: str, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == "200":
            self.seconds.append(seconds)


class Client(asyncio.Protocol):
    """One kept connection, which sends the request again and again: at once, or when the next one is due."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.received = b""
        self.needed = 0
        self.since = 0.0
        self.waiting = False  # for a reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self.load.free(self)

    def send(self, since: float) -> None:
        assert self.transport is not None
        self.since, self.waiting, self.received, self.needed = since, True, b"", 0
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        if not self.needed:
            head, mark, _ = self.received.partition(b"\r\n\r\n")
            if not mark:
                return
            self.needed = len(head) + 4 + length_of(head)
        if len(self.received) >= self.needed:
            self.waiting = False
            self.load.seen.add(self.received[9:12].decode(), time.perf_counter() - self.since)
            self.load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting:
            self.waiting = False
            self.load.seen.add("lost", time.perf_counter() - self.since)
        self.transport = None
        self.load.again(self)


def length_of(head: bytes) -> int:
    """The Content-Length of a reply."""
    lower = head.lower()
    at = lower.index(b"\r\ncontent-length:") + 17
    return int(lower[at:].split(b"\r\n", 1)[0])


class Load:
    """All clients, until the time is over."""

    def __init__(self, asked: dict[str, Any]) -> None:
        body = base64.b64decode(asked["body"])
        headers = "".join(f"{name}: {value}\r\n" for name, value in asked.get("headers", {}).items())
        host = f"{asked['host']}:{asked['port']}"
        head = f"POST {asked['path']} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.request = head.encode() + body
        self.asked, self.seen = asked, Seen()
        self.idle: deque[Client] = deque()
        self.rate: float | None = asked.get("rate")
        self.due = 0.0
        self.ended = False
        self.opening: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGINT, over.set)
        loop.call_later(self.asked["seconds"], over.set)
        self.due = time.perf_counter()
        clients = [Client(self) for _ in range(self.asked["clients"])]
        for each in clients:
            self.again(each)
        if self.rate:
            self.tick()
        await over.wait()
        self.ended = True
        for each in clients:
            each.waiting = False
            if each.transport is not None:
                each.transport.abort()

    def free(self, client: Client) -> None:
        """This client may send."""
        if self.ended:
            return
        if self.rate:
            self.idle.append(client)
            self.catch_up()
        else:
            client.send(time.perf_counter())

    def tick(self) -> None:
        self.catch_up()
        if not self.ended:
            asyncio.get_running_loop().call_later(0.001, self.tick)

    def catch_up(self) -> None:
        """Send what is due, while there are clients that wait for nothing."""
        assert self.rate
        now = time.perf_counter()
        while self.due <= now and self.idle:
            self.seen.behind_s = max(self.seen.behind_s, now - self.due)
            client = self.idle.popleft()
            if client.transport is not None:
                client.send(self.due)
                self.due += 1 / self.rate

    def again(self, client: Client) -> None:
        """Connect, and where that fails a little later."""
        if not self.ended:
            task = asyncio.ensure_future(self.connect(client))
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    async def connect(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        while not self.ended:
            try:
                await loop.create_connection(lambda: client, self.asked["host"], self.asked["port"])
            except OSError:
                self.seen.add("lost", 0.0)
                await asyncio.sleep(RETRY_S)
            else:
                return


def main() -> None:
    load = Load(json.loads(sys.argv[1]))
    began = time.perf_counter()
    uvloop.run(load.run())
    seen = load.seen
    told = {"wall_s": time.perf_counter() - began, "behind_s": seen.behind_s, "statuses": seen.statuses, "seconds": seen.seconds}
    with open(sys.stdout.fileno(), "w", closefd=False) as out:  # PYTHONUNBUFFERED has print lose what a pipe refuses
        out.write(f"{json.dumps(told)}\n")


if __name__ == "__main__":
    main()
