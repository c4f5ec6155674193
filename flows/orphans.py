"""Prefect's temporary server outlives a production that is killed by SIGKILL. The next one ends it: nobody else would."""

import os

import psutil

OWNER = "GENWRIGHT_SERVER_OWNER"  # inherited by the server: process id and start time of whoever started it
SERVER = "prefect.server.api.server:create_app"


def own() -> None:
    """Put this process's name on the servers that it will start."""
    os.environ[OWNER] = _name(psutil.Process())


def end_orphans() -> int:
    """End the servers whose owner is gone. Returns how many there were. Servers that genwright did not start are left alone."""
    ended = 0
    for process in psutil.process_iter():
        try:
            if SERVER in process.cmdline() and _is_gone(process.environ().get(OWNER)):
                process.terminate()
                ended += 1
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    return ended


def _is_gone(owner: str | None) -> bool:
    if owner is None:
        return False
    try:
        process = psutil.Process(int(owner.partition(" ")[0]))
        return process.status() == psutil.STATUS_ZOMBIE or _name(process) != owner
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def _name(process: psutil.Process) -> str:
    # To the second: the start time moves a little when the clock is set.
    return f"{process.pid} {round(process.create_time())}"
