"""What the server says of itself on standard error: lines for people, or JSON lines for a log collector.

As JSON, every request is a line too, with its id: the one that its client sent in X-Request-Id, or one that was made up.
"""

import json
import logging
import random
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

from components.core.errors import InputError

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
SENTENCES = {
    "swapped": "{model}: version {version} (bundle {bundle_sha256:.12}) took over from version {before}",
    "refused": "{model}: version {version} is refused, the one before serves on: {error}",
    "taken up": "{model}: version {version} (bundle {bundle_sha256:.12}) is served from now on",
    "not taken up": "{model}: its champion is refused, trying again: {error}",
    "failed": "{path}: {error}",
    "trouble": "{message} {traceback}",
    "unreachable": "{model}: cannot look for a new champion, trying again: {error}",
}


class Log:
    """Writes events, and requests where they are wanted."""

    def __init__(self, form: str = "text", out: TextIO | None = None) -> None:
        """Raises InputError for a form that is neither text nor json."""
        if form not in ("text", "json"):
            raise InputError(f"--log {form}", allowed="text, json")
        self.form = form
        self.requests = form == "json"
        self._out = out

    def event(self, event: str, **what: Any) -> None:
        """Something happened to the server."""
        if self.form == "json":
            self._line(json.dumps({"time": _now(), "event": event} | what))
        elif event in SENTENCES:
            told = SENTENCES[event].format(**what)
            self._line(told.rstrip() if event == "trouble" else " ".join(told.split()))

    def request(self, *, request_id: str, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        told = {"request_id": request_id, "method": method, "path": path[:200], "status": status, "ms": round(1000 * seconds, 3)}
        self._line(json.dumps({"time": _now(), "event": "request"} | told))

    def _line(self, line: str) -> None:
        out = self._out or sys.stderr
        out.write(f"{line}\n")
        out.flush()


class Passed(logging.Handler):
    """What a library logs, passed on: a traceback is part of its line."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        lines = traceback.format_exception(*record.exc_info) if record.exc_info else []
        self.log.event("trouble", message=record.getMessage(), traceback="".join(lines))


def request_id_of(given: bytes | None) -> str:
    """The client's own id where it is a plain word, else a new one: to be told from others, not to be kept secret."""
    return given.decode() if given and REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
