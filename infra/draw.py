"""Ask a running server for a grid of images and write it: draw.py URL FILE --pid PID [--count N] [--seed N]."""

import argparse
import contextlib
import json
import os
import sys
import time
import urllib.request
from pathlib import Path

WAIT_S = 90.0


def wait_until_ready(url: str, pid: int) -> None:
    """Return when the server is ready. Exits when its process ends or the time is over."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        # a refused connection: it does not listen yet
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5):  # noqa: S310  ours
            return
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            sys.exit("draw: the server ended before it was ready")
        time.sleep(0.2)
    sys.exit(f"draw: the server was not ready after {WAIT_S:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wait_until_ready(options.url, options.pid)
    body = json.dumps({"count": options.count, "seed": options.seed, "format": "grid"}).encode()
    request = urllib.request.Request(f"{options.url}/v1/generate", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        picture = reply.read()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    partial = options.file.with_name(f".{options.file.name}")
    partial.write_bytes(picture)
    partial.replace(options.file)


if __name__ == "__main__":
    main()
