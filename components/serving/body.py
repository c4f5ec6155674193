"""Reads the body of a request within limits of size and time, and works on it without holding up the others."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from components.serving.connection import PRESENCE, WHOLE, Presence
from components.serving.limits import Limits
from components.serving.refusal import Refusal

Result = TypeVar("Result")

DISCARD_FACTOR = 4  # so much of an oversized body is read and thrown away: a client that is still sending can then read the reply
SMALL_BYTES = 64 << 10  # below this, changing threads costs more than the work


async def worked(size_bytes: int, work: Callable[..., Result], *arguments: Any) -> Result:
    """`work(*arguments)`, in a thread of its own where so many bytes would hold up the event loop."""
    if size_bytes > SMALL_BYTES:
        return await asyncio.to_thread(work, *arguments)
    return work(*arguments)


async def read_body(request: Request, limits: Limits, *, most: int) -> bytes:
    """The whole body, at most so many bytes. Raises Refusal: 413 too large, 408 too slow, 415 compressed."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Refusal(415, f"Content-Encoding {encoding!r}; send the body uncompressed")
    received, size, more = [], 0, True
    try:
        # Most requests are there to their end, and need no clock.
        async with nullcontext() if WHOLE in request.scope else asyncio.timeout(limits.body_s):
            while more and size <= DISCARD_FACTOR * limits.body_bytes:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                more = message.get("more_body", False)
                if size <= most:
                    received.append(chunk)
    except TimeoutError:
        raise Refusal(408, f"the request did not arrive within {limits.body_s:g} s") from None
    if size > most:
        raise Refusal(413, f"the body has more than {most} bytes; send fewer items in one request", Connection="close")
    return b"".join(received)


async def unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes away. Raises ClientDisconnect."""
    presence: Presence = request.scope.get(PRESENCE) or Presence()  # behind another server nobody tells
    task = asyncio.current_task()
    assert task is not None
    presence.works.add(task)
    try:
        if presence.left:
            work.close()
            raise ClientDisconnect
        return await work
    except asyncio.CancelledError:
        if not presence.left:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        presence.works.discard(task)
