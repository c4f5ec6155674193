"""Ages as people write them: 7d, 12h, 30m."""

import re

from components.core.errors import InputError

SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}


def seconds_of(text: str, *, option: str = "--older-than") -> float:
    """Seconds of an age; a bare 0 is none. Raises InputError.

    >>> seconds_of("7d")
    604800.0
    """
    if text.strip() == "0":
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([dhms])", text.strip())
    if found is None:
        raise InputError(f"{option} {text}", allowed="a number with d, h, m or s, as 7d or 12h; or 0")
    return float(found[1]) * SECONDS[found[2]]
