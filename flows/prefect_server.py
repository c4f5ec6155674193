"""A Prefect server that the user named: then the command line runs its flows, which show there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from components.runtime.interruption import WATCH

if TYPE_CHECKING:
    from components.operations.prefect_api import PrefectApi


def is_named() -> bool:
    """Whether the environment names a server."""
    return bool(os.environ.get("PREFECT_API_URL"))


def api() -> "PrefectApi | None":
    """The server that the environment names, to ask without Prefect's own packages."""
    from components.operations.prefect_api import PrefectApi

    auth = os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_API_KEY") or ""
    return PrefectApi(os.environ["PREFECT_API_URL"], auth) if is_named() else None


def prepare() -> None:
    """Settings for the Prefect of this process; those that the user has set stay. Call before anything imports prefect.

    Prefect logs a failure with its traceback; the command line says it in one line, so the level is CRITICAL.
    """
    defaults = {
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within a flow's function: a signal comes to us rather than to Prefect, whose server hears how the flow ended."""
    WATCH.rearm()
    yield
