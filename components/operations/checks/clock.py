"""The clock of this machine beside those of the servers: leases and S3's signatures are compared by time."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import httpx

from components.operations.finding import Finding, Installation, fail, ok, warn
from components.pipeline.lease import TTL_S

TIMEOUT_S = 4.0
NOTICE_S = 10.0
SET = "let ntpd, chrony or systemd-timesyncd set the clocks"


def check(installation: Installation) -> Iterator[Finding]:
    """One line for each server that tells a time."""
    settings = installation.backends.settings
    tracking = settings.tracking_uri if (settings.tracking_uri or "").startswith("http") else None
    servers = {"MLflow": tracking, "S3": settings.s3_endpoint, "Prefect": installation.prefect and installation.prefect.url}
    asked = {name: url for name, url in servers.items() if url}
    if not asked:
        yield ok("no server to compare it with")
    for name, url in asked.items():
        try:
            date = httpx.get(url, timeout=TIMEOUT_S, follow_redirects=False).headers.get("date")
        except httpx.HTTPError:
            continue  # another check says so
        if date:
            yield drift(name, time.time() - parsedate_to_datetime(date).timestamp())


def drift(name: str, ahead_s: float) -> Finding:
    """How far this clock is from a server's, which tells whole seconds."""
    if abs(ahead_s) < NOTICE_S:
        return ok(f"as {name}'s, within {NOTICE_S:.0f} s")
    what = f"this clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} {name}'s"
    return warn(what, SET) if abs(ahead_s) < TTL_S / 2 else fail(f"{what}: a lease of {TTL_S:.0f} s means nothing", SET)
