"""A load generator: raw HTTP/1.1 over kept connections, so that the client costs little beside the server.

    python -m benchmarks.load '{"host": "127.0.0.1", "port": 8000, "path": "/...", "body": "BASE64", "clients": 8, "seconds": 5}'

prints the requests' seconds and statuses as JSON, with "lost" for a connection that ended before its reply. In a process of its
own, for the server's sake. `rate` (a second) sends on a clock instead of as fast as the replies come: then seconds count from
when a request was due, and the clients take turns. SIGINT ends it earlier.
"""

import asyncio
import base64
import contextlib
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    def add(self, status: str, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == "200":
            self.seconds.append(seconds)


class Connection:
    """One kept connection, opened again after it was lost."""

    def __init__(self, asked: dict[str, Any], request: bytes) -> None:
        self.host, self.port, self.request = asked["host"], asked["port"], request
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self) -> str:
        """Send the request and read its reply: its status, or "lost"."""
        try:
            self.streams = self.streams or await asyncio.open_connection(self.host, self.port)
            reader, writer = self.streams
            writer.write(self.request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            await asyncio.sleep(0.01)
            return "lost"
        return head[9:12].decode()

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def client(connection: Connection, until: float, seen: Seen) -> None:
    while (began := time.perf_counter()) < until:
        status = await connection.exchange()
        seen.add(status, time.perf_counter() - began)


async def paced(connection: Connection, until: float, seen: Seen, *, first: float, every: float) -> None:
    """One of several clients: a request `every` so many seconds, the first after `first`."""
    due = time.perf_counter() + first
    while due < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        seen.add(await connection.exchange(), time.perf_counter() - due)
        due += every


async def run(asked: dict[str, Any], seen: Seen) -> None:
    body = base64.b64decode(asked["body"])
    headers = "".join(f"{name}: {value}\r\n" for name, value in asked.get("headers", {}).items())
    host = f"{asked['host']}:{asked['port']}"
    request = f"POST {asked['path']} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
    connections = [Connection(asked, request) for _ in range(asked["clients"])]
    until = time.perf_counter() + asked["seconds"]
    try:
        if rate := asked.get("rate"):
            every = len(connections) / rate
            clients = [paced(each, until, seen, first=number / rate, every=every) for number, each in enumerate(connections)]
        else:
            clients = [client(each, until, seen) for each in connections]
        await asyncio.gather(*clients)
    finally:
        for connection in connections:
            connection.close()


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
    asked, seen = json.loads(sys.argv[1]), Seen()
    began = time.perf_counter()
    with contextlib.suppress(KeyboardInterrupt):  # SIGINT: enough
        asyncio.run(run(asked, seen))
    print(json.dumps({"wall_s": time.perf_counter() - began, "statuses": seen.statuses, "seconds": seen.seconds}))


if __name__ == "__main__":
    main()
