"""What every request passes: the token, its id, the clock of metrics and log, and the answer to what its handler raised.

Plain ASGI: no reply is copied.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serving.log import Log, request_id_of
from components.serving.metrics import Metrics
from components.serving.refusal import FORESEEN, Refusal, explain
from components.serving.routes import asks_first_for

OPEN = ("/v2/health/live", "/v2/health/ready")  # a probe has no token


class Guard:
    """Wraps the application. Tokens are held as their SHA-256 only and compared in constant time."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log: Log, tokens: tuple[bytes, ...] = ()) -> None:
        self.app = app
        self.metrics = metrics
        self.log = log
        self.tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, started = time.perf_counter(), 500, False
        scope["app"] = self.app  # a router that knows an application raises for a path it lacks, where it would answer itself
        headers = dict(reversed(scope["headers"]))  # of a name that is sent twice the first counts, as for the handlers
        request_id = request_id_of(headers.get(b"x-request-id"))

        async def watched(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        self.metrics.under_way += 1
        try:
            if not is_page(scope, headers):
                self.admit(scope["path"], headers)
            await self.app(scope, receive, watched)
        except Exception as error:
            if started:
                raise
            await explain(error)(scope, receive, watched)
            if status >= 500:
                self.log.event("failed", request_id=request_id, path=scope["path"][:200], error=str(error) or repr(error))
            if not isinstance(error, FORESEEN):
                raise
        finally:
            seconds = time.perf_counter() - began
            self.metrics.under_way -= 1
            self.metrics.answered(scope["path"], status, seconds)
            if self.log.requests:
                told = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds}
                self.log.request(request_id=request_id, **told)

    def admit(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Let the request pass. Raises Refusal: 401 without a token, 403 with a wrong one."""
        if not self.tokens or path in OPEN:
            return
        given = headers.get(b"authorization", b"")
        if not given.lower().startswith(b"bearer "):
            raise Refusal(401, "a token is needed; send the header 'Authorization: Bearer TOKEN'", WWW_Authenticate="Bearer")
        found = hashlib.sha256(given[7:].strip()).digest()
        right = [hmac.compare_digest(found, token) for token in self.tokens]  # all of them, whichever is right
        if not any(right):
            raise Refusal(403, "the token is not one that this server was started with")


def is_page(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks for the page, which holds nothing of the models: it is where a person types the token."""
    asked = scope["path"] == "/" and scope["method"] == "GET"
    return asked and asks_first_for("text/html", headers.get(b"accept", b"").decode("latin-1"))
