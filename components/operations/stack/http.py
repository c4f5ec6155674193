"""Whether a server of this machine answers."""

import httpx


def succeeds(url: str) -> bool:
    """Whether it answers with success."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except (httpx.HTTPError, OSError):
        return False
