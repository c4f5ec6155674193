"""Tells servers that a channel was moved, so that they look now and not at their next look, which comes all the same."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import requests

from components.core.addresses import without_password

LIMIT_S = 1.0  # a server that is away holds up no release
LOOK = "/v1/look"


def tell(addresses: Sequence[str], *, token: str | None = None) -> None:
    """Ask each server, all at once, to look at the channels that it follows. One that was not told is said in a line."""
    with ThreadPoolExecutor(max(1, min(8, len(addresses)))) as callers:
        for line in callers.map(lambda address: _told(address, token), addresses):
            if line:
                sys.stderr.write(f"genwright: {line}\n")


def _told(address: str, token: str | None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    shown = without_password(address)
    try:
        reply = requests.post(f"{address.rstrip('/')}{LOOK}", headers=headers, timeout=LIMIT_S)
    except requests.RequestException as error:
        return f"{shown}: was not told of the new champion ({type(error).__name__}); it looks by itself every two seconds"
    if not reply.ok:
        return (
            f"{shown}: answered {reply.status_code} when it was told of the new champion; GENWRIGHT_SERVERS names servers of ours"
        )
    return ""
