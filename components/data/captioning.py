"""What is said of each item, written beside the shards of its split: `train.captions.jsonl`, a JSON list of texts an item.

The order is that of the items. The same captions give the same bytes on every machine.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from components.core.errors import DataError
from components.core.files import sha256_of
from components.core.modality import Unreadable
from components.data.manifest import CaptionFile, CaptionReport
from components.data.sources.caption_groups import key_of
from components.data.sources.caption_rules import Cleaned, is_template
from components.data.sources.item import Item, Survey
from components.data.splits import SPLITS, Split

EXAMPLES = 6
CHARACTERS = 80  # of an example
NO_CAPTION = "no-caption"  # the reason under which an item without one is set aside


@dataclass
class Captioning:
    """The captions of a preparation; of a set without any it writes and counts nothing."""

    folder: Path
    survey: Survey
    files: dict[Split, IO[bytes]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    first_unusable: str = ""
    most: int = 0
    longest: int = 0
    kinds: set[int] = field(default_factory=set)
    firsts: dict[Split, list[int]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    trained: set[int] = field(default_factory=set)  # every caption of the training items
    examples: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> bool:
        """Whether the set has captions."""
        return self.survey.captions != "none"

    def of(self, item: Item) -> Cleaned:
        """What is said of an item; nothing where its class, which would say it, cannot be read."""
        try:
            return self.survey.captions_of(item)
        except Unreadable:
            return Cleaned(())

    def check(self, item: Item, said: Cleaned) -> None:
        """Count what is passed over. Raises Unreadable where nothing that can be used is said of an item."""
        self.counts["empty"] += said.empty
        self.counts["twice"] += said.twice
        self.counts["unusable"] += bool(said.unusable)
        if said.unusable and not self.first_unusable:
            self.first_unusable = f"{item.name}: {said.unusable}"
        if self.wanted and not said.captions:
            raise Unreadable(NO_CAPTION, said.unusable or ("it is empty" if said.empty else "none"))

    def add(self, captions: tuple[str, ...], split: Split) -> None:
        """Append what is said of the item that is appended to a split."""
        if not self.wanted:
            return
        if split not in self.files:
            self.files[split] = self._path(split).open("wb", buffering=1 << 20)
        self.files[split].write(json.dumps(captions, ensure_ascii=False).encode() + b"\n")
        keys = [key_of(caption) for caption in captions]
        self.counts["repeated"] += keys[0] in self.kinds
        self.kinds.update(keys)
        self.firsts[split].append(keys[0])
        if split == "train":
            self.trained.update(keys)
        self.most = max(self.most, len(captions))
        self.longest = max(self.longest, *map(len, captions))
        if len(self.examples) < EXAMPLES and captions[0][:CHARACTERS] not in self.examples:
            self.examples.append(captions[0][:CHARACTERS])

    def finish(self) -> dict[Split, CaptionFile]:
        """Close the files and describe them."""
        found: dict[Split, CaptionFile] = {}
        for split in [split for split in SPLITS if split in self.files]:
            with self.files.pop(split) as file:
                file.flush()
                os.fsync(file.fileno())
            path = self._path(split)
            found[split] = CaptionFile(file=path.name, size_bytes=path.stat().st_size, sha256=sha256_of(path))
        return found

    def report(self, *, missing: int) -> CaptionReport | None:
        """None of a set without captions."""
        if not self.wanted:
            return None
        return CaptionReport(
            rule=self.survey.captions,
            most=self.most,
            longest=self.longest,
            missing=missing,
            empty=self.counts["empty"],
            twice=self.counts["twice"],
            unusable=self.counts["unusable"],
            repeated=self.counts["repeated"],
            held_out="none" if self.survey.groups is None else self.survey.groups.way,
            seen=sum(key in self.trained for split in SPLITS if split != "train" for key in self.firsts[split]),
            examples=tuple(self.examples),
        )

    def _path(self, split: Split) -> Path:
        return self.folder / f"{split}.captions.jsonl"

    def abandon(self) -> None:
        """Let go of open files."""
        for file in self.files.values():
            file.close()


def ask_captions(survey: Survey, rule: str, *, where: str) -> Survey:
    """A survey whose items are captioned by the rule that the user gave. Raises DataError where it cannot be."""
    if is_template(rule) and not survey.classes:
        raise DataError(
            f"{where}: --captions {rule!r} names a class, and there are none",
            do="make each class a folder, or write a metadata.csv with file_name and label",
        )
    if survey.captions == "none" and rule not in ("auto", "none"):
        if not is_template(rule):
            raise DataError(
                f"{where}: --captions {rule} given, and it has no such files", allowed='auto, none, or "... {class} ..."'
            )
        return replace(survey, captions=rule)
    return survey
