"""The seeded split. Of every ten items in a row one is test and one is validation: a hash of seed and ten says which.

So the shares are exact, the split streams, it is the same on every machine, a source that lies sorted by class is split evenly
over its classes, and another item at the end moves no earlier one. Sets of 64 to 159 items have smaller blocks: see
core/proof_items.py.
"""

import hashlib
from typing import Literal

from components.core.proof_items import BLOCK

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def split_of(index: int, *, seed: int, official: Split | None = None, block: int = BLOCK) -> Split:
    """The split of item `index` (0, 1, ...): of every `block` in a row one is test, one validation.

    A source's `official` test items stay test; validation then comes from its train.

    >>> [split_of(index, seed=0) for index in range(10)].count("train")
    8
    """
    if official is not None and official != "train":
        return official
    digest = hashlib.blake2b(f"{seed}:{index // block}".encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "big") % (block * (block - 1))
    test = draw % block
    validation = (test + 1 + draw // block) % block
    place = index % block
    if place == validation:
        return "validation"
    return "test" if place == test and official is None else "train"
