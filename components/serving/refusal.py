"""A request that is refused: an HTTP status and one line. The reply's body is {"error": line}."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from components.core.errors import GenwrightError


class Refusal(Exception):
    """Raised anywhere while a request is handled."""

    def __init__(self, status: int, line: str, **headers: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> JSONResponse:
        return JSONResponse({"error": self.line}, self.status, self.headers)


FORESEEN = (Refusal, ClientDisconnect, GenwrightError, HTTPException)  # anything else is a defect, whose traceback is logged


def explain(error: Exception) -> Response:
    """The reply to whatever a handler raised: always {"error": one line}, never a traceback."""
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # nobody reads it; the metrics count it
    if isinstance(error, GenwrightError):
        return JSONResponse({"error": str(error)}, 500)
    status: int = getattr(error, "status_code", 500)
    detail: Any = getattr(error, "detail", None) or "the server failed; its log says why"
    return JSONResponse({"error": str(detail)}, status, getattr(error, "headers", None))
