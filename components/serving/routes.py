"""A handler `request -> response` at a path, without the layers that a framework would put around it.

What a handler raises goes through to the guard (guard.py), which answers it: one place, and nothing to pay where all is well.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response]]


def asks_first_for(media_type: str, accept: str) -> bool:
    """Whether an Accept header names this type first, as browsers name HTML and scripts JSON. Weights (q=) are not read.

    >>> asks_first_for("application/json", "application/json, text/plain, */*"), asks_first_for("text/html", "*/*")
    (True, False)
    """
    return accept.split(",", maxsplit=1)[0].partition(";")[0].strip().lower() == media_type


class Endpoint:
    """A handler as an ASGI application."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.handler(Request(scope, receive, send))
        await response(scope, receive, send)


def route(path: str, handler: Handler, method: str = "GET") -> Route:
    """The handler at this path."""
    return Route(path, Endpoint(handler), methods=[method])
