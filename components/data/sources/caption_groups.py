"""Items that share a caption, or are the same file, belong together: no split may part them.

Two ways of sharing are followed at once, because one word that many captions name (a tag) would join nearly all items: any
caption, and the first of each alone. Eight bytes a caption are kept.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from components.core.arrays import Raw

Way = Literal["all", "first"]
LARGEST = 20  # a group is at most one of so many items: captions of fewer kinds are classes, and no split could hold one out


@dataclass
class _Sets:
    """Disjoint sets of keys."""

    above: dict[int, int] = field(default_factory=dict)

    def root(self, key: int) -> int:
        while (up := self.above.setdefault(key, key)) != key:
            self.above[key] = self.above[up]
            key = up
        return key

    def join(self, keys: Sequence[int]) -> None:
        first = self.root(keys[0])
        for key in keys[1:]:
            self.above[self.root(key)] = first


class CaptionGroups:
    """Which captions belong together. Every captioned item of a source is added, then `settle` says by which way."""

    def __init__(self) -> None:
        self._sets: dict[Way, _Sets] = {"all": _Sets(), "first": _Sets()}
        self._firsts: Counter[int] = Counter()  # the first caption of each item
        self._files: dict[int, int] = {}  # an item's bytes -> the first caption of the first item that is them
        self.way: Way = "all"

    def add(self, captions: Sequence[str], raw: Raw) -> None:
        """An item and what is said of it."""
        keys = [key_of(caption) for caption in captions]
        self._firsts[keys[0]] += 1
        same = self._files.setdefault(_digest(raw if isinstance(raw, bytes) else raw.tobytes()), keys[0])
        self._sets["all"].join([*keys, same])
        self._sets["first"].join([keys[0], same])

    def settle(self) -> Way | None:
        """Any shared caption where groups are small enough then, else the first of each item; None where neither does."""
        for way in self._sets:
            self.way = way
            sizes: Counter[int] = Counter()
            for key, items in self._firsts.items():
                sizes[self._sets[way].root(key)] += items
            if sizes and max(sizes.values()) <= max(1, sizes.total() / LARGEST):
                return way
        return None

    def of(self, captions: Sequence[str]) -> int:
        """The group of an item."""
        return self._sets[self.way].root(key_of(captions[0]))


def key_of(caption: str) -> int:
    """A caption as eight bytes."""
    return _digest(caption.encode())


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
