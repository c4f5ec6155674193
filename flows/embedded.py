"""Prefect without a server at hand: its own temporary one, quiet and patient. Call before anything imports prefect."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.core.errors import StorageError, disk_error
from components.runtime.interruption import WATCH

ROOM_MB = 64  # Prefect's and MLflow's databases, an extractor, a checkpoint and a bundle of a small model
PATIENCE_S = 120  # a busy machine needs more than Prefect's 20 s


def prepare(root: Path) -> None:
    """Settings for the Prefect of this process; those that the user has set stay.

    Prefect logs a failure with its traceback; the command line says it in one line, so the level is CRITICAL.
    """
    check_room(root)
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(PATIENCE_S),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        "OMP_WAIT_POLICY": "PASSIVE",  # not Prefect's, but before anything imports torch too: threads that spin starve the rest
    }
    if not has_server():
        from flows import orphans

        orphans.end_orphans()
        orphans.own()
        defaults |= {"PREFECT_HOME": str(root / "prefect"), "PREFECT_LOGGING_TO_API_ENABLED": "false"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within a flow's function: a signal comes to us rather than to Prefect, and ends the command here.

    Above here Prefect reports the end to its server, which the same signal may have ended too; a server that the user named
    hears of it.
    """
    WATCH.rearm()
    try:
        yield
    except BaseException as error:
        if WATCH.first is None or has_server():
            raise
        WATCH.end(WATCH.line_of(error))


def has_server() -> bool:
    """Whether the user named a Prefect server."""
    return bool(os.environ.get("PREFECT_API_URL"))


def check_room(root: Path) -> None:
    """Raises StorageError when the disk of `root` is as good as full: Prefect and MLflow fail on it late and unclearly."""
    try:
        free_mb = shutil.disk_usage(root).free / 1e6
    except OSError as error:
        raise disk_error(error, root) from error
    if free_mb < ROOM_MB:
        what = f"{root}: the disk is full: {free_mb:.0f} MB are free"
        raise StorageError(what, allowed=f"{ROOM_MB} MB or more", do="free some space")
