"""The first pass over captions: which files hold them where `auto` asks, and which items no split may part."""

import re

from components.core.arrays import Raw
from components.core.errors import DataError
from components.data.sources.caption_groups import CaptionGroups, key_of
from components.data.sources.caption_rules import CaptionRule, captions_by
from components.data.sources.item import Item
from components.data.sources.label_files import METADATA, TEXTS
from components.data.sources.mentions import FEW, SHORT

LETTER = re.compile(r"[^\W\d_]")


class SeenCaptions:
    """What the captions of the items have shown so far."""

    def __init__(self, rule: CaptionRule) -> None:
        self.rule = rule
        self.groups = CaptionGroups()
        self.items = self.captioned = self.lettered = 0
        self.longest = 0
        self.kinds: set[int] = set()

    def add(self, item: Item, raw: Raw) -> None:
        """Count one item that can be opened."""
        if self.rule not in ("auto", "metadata", "sidecar"):
            return
        self.items += 1
        captions = captions_by(self.rule, item.captions, folder=None, class_name="").captions
        if captions:
            self.captioned += 1
            self.lettered += any(map(LETTER.search, captions))
            self.longest = max(self.longest, *map(len, captions))
            self.kinds.add(key_of("\n".join(captions)))
            self.groups.add(captions, raw)

    def settled(self, *, beside: int, where: str) -> tuple[CaptionRule, tuple[str, ...]]:
        """Where captions come from, and notes. `beside`: how many texts lie beside pictures. Raises DataError for none of those
        that were asked for."""
        if self.rule not in ("auto", "metadata", "sidecar"):
            return self.rule, ()
        if self.rule != "auto" and not self.captioned:
            what = f"{where}: --captions {self.rule} given, and no picture has one"
            of = {
                "metadata": f"a {' or '.join(METADATA)} with file_name and {' or '.join(TEXTS)}, in a folder or a zip",
                "sidecar": "NAME.txt beside NAME.png, one caption a line",
            }
            raise DataError(what, allowed=of[self.rule], do="write them, or give --captions none")
        if not beside:
            return ("metadata" if self.captioned else "none"), ()
        if self.rule == "auto" and (why := self._doubt()):
            note = f"{beside:,} texts beside pictures are not taken as captions: {why} (--captions sidecar takes them)"
            return "none", (note,)
        return "sidecar", ()

    def _doubt(self) -> str:
        """Why the texts beside pictures may be something else: boxes, or labels."""
        if 2 * self.captioned < self.items:
            return f"{self.items - self.captioned:,} of {self.items:,} pictures have none"
        if 2 * self.lettered < self.captioned:
            return "most hold no word"
        few = len(self.kinds) > 1 and FEW * len(self.kinds) <= self.captioned
        return "they are few short values, as labels are" if few and self.longest <= SHORT else ""
