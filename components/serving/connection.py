"""All of uvicorn that is no public interface: one connection, and the server. pyproject.toml pins the version for this file.

A connection is uvicorn's, which also bounds what it would otherwise wait for without end, or keep without bound.

What of a request is no body (its first line, headers, trailers) may have so many bytes; a head, and what is left of a body whose
reply has gone, may take so many seconds; so long may a client not read on; and there may be so many connections (limits.py). What
goes beyond is answered with {"error": one line}, where no reply is under way, and closed.
"""

import asyncio
import gc
import json
import signal
import socket
from asyncio import Task, TimerHandle
from asyncio import Transport as AsyncTransport
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, Protocol

import uvicorn
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from components.serving.limits import Limits
from components.serving.log import Log

WHOLE = "genwright.whole"  # in the scope of a request that has arrived to its end: most have before anybody is told of them
CLOSE = (b"connection", b"close")
PRESENCE = "genwright.presence"  # in the scope of a request: its client's


class Awaited(Enum):
    """What the next bytes belong to."""

    HEAD = auto()
    BODY = auto()
    NOTHING = auto()  # the request is there; another may come


class Bad(Exception):
    """Raised in a callback of the parser: this is not answered by the application."""


class Presence:
    """Whether a client is still there; the work that is done for it alone ends when it leaves."""

    def __init__(self) -> None:
        self.left = False
        self.works: set[Task[Any]] = set()

    def leave(self) -> None:
        self.left = True
        for work in self.works:
            work.cancel()


class Send:
    """The ASGI `send` of one request, whose reply is one message with its head and one with its whole body. They are written
    together: two writes would wake the client twice."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self.cycle = cycle
        self.head = b""

    async def __call__(self, message: Message) -> None:
        cycle = self.cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.transport.is_closing():
            cycle.disconnected = True
        if cycle.disconnected:
            return
        if message["type"] == "http.response.start":
            self.head = self.head_of(message["status"], [*cycle.default_headers, *message["headers"]])
            cycle.response_started, cycle.waiting_for_100_continue = True, False
        else:
            body = b"" if cycle.scope["method"] == "HEAD" else message["body"]
            cycle.transport.writelines((self.head, body))
            cycle.response_complete = True
            cycle.message_event.set()
            if not cycle.keep_alive:
                cycle.transport.close()
            cycle.on_response()
            vars(cycle).pop("send", None)  # so that they go at once, not when the garbage is next collected

    def head_of(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The first line and the headers. Raises ValueError where one of them holds a line break."""
        if CLOSE in headers:
            self.cycle.keep_alive = False
        elif not self.cycle.keep_alive:
            headers = [*headers, CLOSE]
        lines = [STATUS_LINE[status][:-2], *[b"%b: %b" % header for header in headers]]
        head = b"\r\n".join((*lines, b"", b""))
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            raise ValueError("a header of the reply holds a line break")
        return head


class Connection(HttpToolsProtocol):
    """The protocol of one client."""

    def __init__(self, *arguments: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.limits = limits
        self.awaited = Awaited.HEAD
        self.head_bytes = 0  # of this head
        self.pending_bytes = 0  # since a request last got on
        self.late: TimerHandle | None = None
        self.reading: TimerHandle | None = None
        self.unread_bytes = 0  # of replies, when it was last looked
        self.presence = Presence()
        self.close_after_response = False  # after a reply that is under way, the connection closes
        self.refusal = (400, "this is not HTTP")

    def connection_made(self, transport: AsyncTransport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self.turn_away(503, f"{self.limits.connections} connections are open, and no more may be; try again later")
        else:
            self.expect(self.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.presence.leave()
        self.in_time()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.close_after_response or self.transport.is_closing():
            return
        self.pending_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        head_bytes = self.head_bytes if self.awaited is Awaited.HEAD else 0
        if max(self.pending_bytes, head_bytes) > self.limits.head_bytes:
            self.turn_away(431, f"more than {self.limits.head_bytes} bytes of headers; send fewer")
        elif self.awaited is Awaited.HEAD:
            self.expect(self.limits.head_s)
        elif self.awaited is Awaited.BODY and self.cycle.response_complete:
            self.expect(self.limits.body_s)
        else:
            self.in_time()
            if self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
                # what came was no request, and has ended the clock that runs between two
                self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        self.awaited, self.head_bytes, self.pending_bytes = Awaited.HEAD, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.awaited is Awaited.HEAD:  # not those behind the body, which say nothing here
            self.head_bytes += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.head_bytes > self.limits.head_bytes:
            self.refusal = (431, f"more than {self.limits.head_bytes} bytes of headers; send fewer")
            raise Bad
        if self.parser.should_upgrade() and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            # the parser would take the body for what follows the upgrade
            self.refusal = (400, "a request with a body asks for another protocol; send it without the header Upgrade")
            raise Bad
        super().on_headers_complete()  # which raises for a target that it cannot read
        self.scope[PRESENCE] = self.presence  # type: ignore[literal-required]
        self.cycle.send = Send(self.cycle)  # type: ignore[assignment, method-assign]
        self.awaited, self.pending_bytes = Awaited.BODY, 0

    def on_body(self, body: bytes) -> None:
        self.pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_time()
        self.awaited, self.pending_bytes = Awaited.NOTHING, 0
        self.scope[WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()
        if not self.pipeline:  # reading stops behind a large body, and only who reads hears that the client has left
            self.flow.resume_reading()

    def expect(self, seconds: float) -> None:
        """Close unless what is awaited comes by then; a clock that runs is not set back."""
        if self.late is None:
            self.late = self.loop.call_later(seconds, self.too_late)

    def in_time(self) -> None:
        """It has come."""
        if self.late is not None:
            self.late.cancel()
            self.late = None

    def too_late(self) -> None:
        """It has not."""
        self.late = None
        if self.flow.read_paused:  # it was not let in
            self.expect(self.limits.head_s)
        else:
            self.turn_away(408, "the request did not arrive in time")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.end_if_unread()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.end_if_unread()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.look_again()

    def resume_writing(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
            self.reading = None
        if self.flow is not None:
            super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when the parser gives up."""
        del msg
        self.turn_away(*self.refusal)

    def turn_away(self, status: int, line: str) -> None:
        """Say why and close; a reply that is under way is the last."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive, self.close_after_response = False, True
            return
        if self.awaited is not Awaited.BODY:  # else its reply has gone
            body = json.dumps({"error": line}).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
        self.end_if_unread()

    def end_if_unread(self) -> None:
        """A client that does not read what it was sent would keep a closing connection open."""
        if self.transport.is_closing():
            self.look_again()

    def look_again(self) -> None:
        """See after a while whether the client has read on."""
        if self.reading is None:
            self.unread_bytes = self.transport.get_write_buffer_size()
            self.reading = self.loop.call_later(self.limits.body_s, self.look)

    def look(self) -> None:
        self.reading = None
        if 0 < self.transport.get_write_buffer_size() < self.unread_bytes:
            self.look_again()
        else:
            self.transport.abort()


class Drained(Protocol):
    """What a server ends: not ready once `draining` is set."""

    limits: Limits
    log: Log
    draining: bool


class Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us: a drained server has done its work and exits with 0."""

    def __init__(self, config: uvicorn.Config, service: Drained, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.service = service
        self.tell_started = started

    async def until_told(self, listener: socket.socket) -> None:
        """Serve until a signal; a second one stops at once."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain, self.service.limits.notice_s)
        loop.add_signal_handler(signal.SIGINT, self.drain, 0)  # a person at the keyboard has no balancer to wait for
        await self.serve(sockets=[listener])

    def drain(self, notice_s: float) -> None:
        """Not ready from now on; a notice later the door closes. Told again, stop at once."""
        if self.service.draining:
            self.should_exit = self.force_exit = True
            return
        self.service.draining = True
        self.service.log.event("draining")
        asyncio.get_running_loop().call_later(notice_s, self.close_door)

    def close_door(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is there now stays: collections need not look at it
        if self.started:
            self.tell_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # uvicorn would end the process by the signal it caught
