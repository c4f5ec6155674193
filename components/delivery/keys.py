"""Keys of the object stores: portable between S3, every file system and a URL."""

import re

from components.core.errors import StorageError

SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}"  # no leading dot: '..' and hidden files cannot be named
KEY = re.compile(rf"{SEGMENT}(/{SEGMENT})*")
KEY_LIMIT = 700  # S3 allows 1,024 bytes; the rest is left to the prefix


def checked_key(key: str) -> str:
    """The key itself. Raises StorageError when it is not portable."""
    if not KEY.fullmatch(key) or len(key) > KEY_LIMIT:
        raise StorageError(
            f"key {key[:80]!r}",
            allowed=f"letters, digits, '.', '_', '-' in parts joined by '/', none beginning with '.' or '-', at most {KEY_LIMIT}",
        )
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix itself: the beginning of a key, or nothing. Raises StorageError."""
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix
