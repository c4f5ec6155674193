"""One connection: uvicorn's, which also bounds what it would otherwise wait for without end, or keep without bound.

A request's head may have so many bytes and take so many seconds, and there may be so many connections (limits.py). What goes
beyond is answered with {"error": one line} and closed.
"""

import json
from asyncio import TimerHandle
from asyncio import Transport as AsyncTransport
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from components.serving.limits import Limits

WHOLE = "genwright.whole"  # in the scope of a request that had arrived to its end before anybody was told of it


class Connection(HttpToolsProtocol):
    """The protocol of one client. `head` is what there is of a request until its body begins."""

    def __init__(self, *arguments: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.limits = limits
        self.in_head = True
        self.head_bytes = 0
        self.late: TimerHandle | None = None

    def connection_made(self, transport: AsyncTransport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self.turn_away(503, f"{self.limits.connections} connections are open, and no more may be; try again later")
        else:
            self.late = self.loop.call_later(self.limits.head_s, self.too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self.in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.head_bytes += len(data)
        super().data_received(data)
        if not self.in_head:
            self.head_bytes = 0
            self.in_time()
        elif self.head_bytes > self.limits.head_bytes:
            self.turn_away(431, f"the request's head has more than {self.limits.head_bytes} bytes; send fewer headers")
        elif self.late is None:
            self.late = self.loop.call_later(self.limits.head_s, self.too_late)

    def on_message_begin(self) -> None:
        self.in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # not those behind the body, which say nothing here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.scope[WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def in_time(self) -> None:
        """What was waited for is there."""
        if self.late is not None:
            self.late.cancel()
            self.late = None

    def too_late(self) -> None:
        """It is not."""
        self.late = None
        self.turn_away(408, f"the request's head did not arrive within {self.limits.head_s:g} s")

    def turn_away(self, status: int, line: str) -> None:
        """Say why, where no reply is under way on this connection, and close it."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = json.dumps({"error": line}).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
