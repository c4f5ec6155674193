"""The seeded split. Of every ten items in a row one is test and one is validation: a hash of seed and ten says which.

So the shares are exact, the split streams, it is the same on every machine, a source that lies sorted by class is split evenly
over its classes, and another item at the end moves no earlier one.
"""

import hashlib
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
BLOCK = 10


def split_of(index: int, *, seed: int, official: Split | None = None) -> Split:
    """The split of item `index` (0, 1, ...). A source's `official` test items stay test; validation then comes from its train."""
    if official is not None and official != "train":
        return official
    digest = hashlib.blake2b(f"{seed}:{index // BLOCK}".encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "big") % (BLOCK * (BLOCK - 1))
    test = draw % BLOCK
    validation = (test + 1 + draw // BLOCK) % BLOCK
    place = index % BLOCK
    if place == validation:
        return "validation"
    return "test" if place == test and official is None else "train"
