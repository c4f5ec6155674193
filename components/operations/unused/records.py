"""What the records of a store say, as far as freeing needs it: which things each made, and which it names.

A record is read as JSON, so one of another version, or of a stage that came later, says as much as any other. What it names is
every digest that stands anywhere in it: too many are kept rather than one too few.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

DIGEST = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32})\b")  # of a file, a bundle, a run; of a dataset version
MADE: Mapping[str, Callable[[Any], Any]] = {  # by the name of its stage: the digest of what this record is the proof of
    "train": lambda found: found["checkpoint"]["weights"]["sha256"],
    "export": lambda found: found["graph"]["sha256"],
    "prove": lambda found: found["samples"]["sha256"],
    "seal": lambda found: found["sha256"],
    "promote": lambda found: found["bundle"]["sha256"],
}


def named_in(data: bytes) -> frozenset[str]:
    """Every digest that stands in a record."""
    return frozenset(DIGEST.findall(data.decode(errors="replace")))


def made_by(stage: str, data: bytes) -> str | None:
    """What the record of a stage is the proof of; None for another kind, and for one that cannot be read."""
    try:
        return str(MADE[stage](json.loads(data)))
    except (KeyError, TypeError, ValueError):
        return None


def roots_in_bundle(data: bytes) -> frozenset[str]:
    """What a bundle consists of: the digests of its files, and that of the weights that it was exported from."""
    try:
        found = json.loads(data)
        return frozenset([*(file["sha256"] for file in found["files"]), found["lineage"]["checkpoint_sha256"]])
    except (KeyError, TypeError, ValueError):
        return frozenset()
