"""Run by the fixture `forge`: imports what a server needs once, then starts each server of standard input in a fork.

A job is a line of JSON: {"bundle", "options", "stderr"} starts a server whose standard error is that named pipe, and answers its
process id; {"wait": PID, "timeout_s"} answers its exit code, or null where it still runs.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from components.core.errors import GenwrightError, StorageError
from components.serving.engine import Engine
from components.serving.following import Named, Source
from components.serving.limits import Limits
from components.serving.log import Log
from components.serving.server import serve


def load(folder: str) -> Engine:
    return Engine.load(Path(folder), threads=2)


def read(channel: str) -> Named:
    try:
        version, folder = Path(channel).read_text().split()
    except OSError as error:
        raise StorageError(f"{channel}: {error}") from error
    return Named(version, folder)


def run(bundle: str, options: dict[str, Any]) -> None:
    limits = Limits(**options.pop("limits", {}))
    tokens = [hashlib.sha256(token.encode()).digest() for token in options.pop("tokens", [])]
    log = Log(options.pop("log", "text"))
    if options.pop("follow", False):
        sources = [Source("digits", lambda: read(bundle), lambda named: load(named.bundle_sha256))]
    else:
        models = options.pop("models", {}) | {"digits": bundle}
        sources = [
            Source(name, lambda: Named("3", ""), lambda _, at=at: load(at), follows=False)  # type: ignore[misc]
            for name, at in models.items()
        ]
    serve(sources, **{"port": 0} | options, tokens=tokens, log=log, limits=limits)


def child(job: dict[str, Any]) -> int:
    with Path(job["stderr"]).open("w", buffering=1) as stderr:
        os.dup2(stderr.fileno(), 2)
        sys.stderr = stderr
        try:
            run(job["bundle"], job["options"])
        except GenwrightError as error:
            stderr.write(f"{error}\n")
            return error.exit_code
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def start(job: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.close(0)
            code = child(job)
        finally:
            os._exit(code)
    return pid


def wait(pid: int, timeout_s: float) -> int | None:
    until = time.monotonic() + timeout_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.005)


for line in sys.stdin:
    known = json.loads(line)
    print(json.dumps(wait(known["wait"], known["timeout_s"]) if "wait" in known else start(known)), flush=True)
