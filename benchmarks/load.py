"""A load generator: raw HTTP/1.1 over kept connections, so that the client costs little beside the server.

    python -m benchmarks.load '{"host": "127.0.0.1", "port": 8000, "path": "/...", "body": "BASE64", "clients": 8, "seconds": 5}'

prints the requests' seconds and statuses as JSON. In a process of its own, for the server's sake. `rate` (a second) sends on a
clock instead of as fast as the replies come: then seconds count from when a request was due. SIGINT ends it earlier.
"""

import asyncio
import base64
import contextlib
import json
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


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    """Send one request and read its reply; the status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
    await reader.readexactly(length)
    return head[9:12].decode()


async def client(asked: dict[str, Any], request: bytes, until: float, seen: Seen) -> None:
    reader, writer = await asyncio.open_connection(asked["host"], asked["port"])
    try:
        while (began := time.perf_counter()) < until:
            status = await exchange(reader, writer, request)
            seen.add(status, time.perf_counter() - began)
    finally:
        writer.close()


async def paced(asked: dict[str, Any], request: bytes, until: float, seen: Seen, *, share: float) -> None:
    """One of the clients that send `share` requests a second together with the others."""
    reader, writer = await asyncio.open_connection(asked["host"], asked["port"])
    due = time.perf_counter()
    try:
        while due < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            seen.add(await exchange(reader, writer, request), time.perf_counter() - due)
            due += 1 / share
    finally:
        writer.close()


async def run(asked: dict[str, Any], seen: Seen) -> None:
    body = base64.b64decode(asked["body"])
    headers = "".join(f"{name}: {value}\r\n" for name, value in asked.get("headers", {}).items())
    host = f"{asked['host']}:{asked['port']}"
    request = f"POST {asked['path']} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
    until, count = time.perf_counter() + asked["seconds"], asked["clients"]
    if rate := asked.get("rate"):
        await asyncio.gather(*(paced(asked, request, until, seen, share=rate / count) for _ in range(count)))
    else:
        await asyncio.gather(*(client(asked, request, until, seen) for _ in range(count)))


def main() -> None:
    asked, seen = json.loads(sys.argv[1]), Seen()
    began = time.perf_counter()
    with contextlib.suppress(KeyboardInterrupt):  # SIGINT: enough
        asyncio.run(run(asked, seen))
    print(json.dumps({"wall_s": time.perf_counter() - began, "statuses": seen.statuses, "seconds": seen.seconds}))


if __name__ == "__main__":
    main()
