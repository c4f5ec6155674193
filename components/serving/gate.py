"""What every request passes first: the token, and the clock of the metrics. Plain ASGI, so a reply is not copied."""

import hashlib
import hmac
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serving.metrics import Metrics
from components.serving.refusal import Refusal

OPEN = ("/v2/health/live", "/v2/health/ready")  # a probe has no token


class Gate:
    """Wraps the application. The token is held as its SHA-256 only and compared in constant time."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, token: str | None) -> None:
        self.app = app
        self.metrics = metrics
        self.token_sha256 = hashlib.sha256(token.encode()).digest() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.under_way.inc()
        try:
            if refusal := self.refusal(scope):
                await refusal.response()(scope, receive, watched)
            else:
                await self.app(scope, receive, watched)
        finally:
            self.metrics.under_way.dec()
            self.metrics.answered(scope["path"], status, time.perf_counter() - began)

    def refusal(self, scope: Scope) -> Refusal | None:
        """401 without a token, 403 with a wrong one, None when the request may pass."""
        if self.token_sha256 is None or scope["path"] in OPEN:
            return None
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not given.lower().startswith(b"bearer "):
            return Refusal(401, "a token is needed; send the header 'Authorization: Bearer TOKEN'", WWW_Authenticate="Bearer")
        if hmac.compare_digest(hashlib.sha256(given[7:].strip()).digest(), self.token_sha256):
            return None
        return Refusal(403, "the token is not the one this server was started with")
