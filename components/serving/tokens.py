"""The tokens that are let in: known by their SHA-256, of which alone anything is held."""

import hashlib
import re

from components.core.errors import SettingsError

DIGEST = re.compile(r"[0-9a-f]{64}")


def digests_of(token: str | None, sha256: str | None) -> tuple[bytes, ...]:
    """What GENWRIGHT_TOKEN and GENWRIGHT_TOKEN_SHA256 hold, None for one that is not set, as digests. Raises SettingsError for a
    digest that is none."""
    words = [] if sha256 is None else [word.strip().lower() for word in sha256.split(",")]
    bad = next((word for word in words if not DIGEST.fullmatch(word)), None)
    if bad is not None:
        raise SettingsError(
            f"GENWRIGHT_TOKEN_SHA256: {bad[:12]!r} is no digest",
            allowed="64 hexadecimal digits each, separated by commas",
            do="printf %s TOKEN | sha256sum",
        )
    plain = () if token is None else (hashlib.sha256(token.encode()).digest(),)
    return (*plain, *(bytes.fromhex(word) for word in words))
