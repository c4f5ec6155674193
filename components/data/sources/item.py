"""What a source gives: items, one after another, and a survey of them all. Neither holds the set in memory.

What an item is, its modality knows: a source hands on files or arrays, and a reader (core/modality.py) looks at them and decodes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from components.core.arrays import Raw
from components.core.modality import ItemReader, Unreadable
from components.data.sources.caption_groups import CaptionGroups
from components.data.sources.caption_rules import CaptionRule, Cleaned, captions_by, is_template
from components.data.sources.classes import ClassRule
from components.data.splits import Split
from components.runtime.progress import Advance


@dataclass(frozen=True)
class Item:
    """One item, not read yet. `read` must be called before the next item is asked for.

    `name` can be shown and stored anywhere. `label` is the class as the source writes it, `folder` the folder it lies in: the
    class where no item has a label. `captions`: what a file says of it, as it is written there.
    """

    name: str
    read: Callable[[], Raw]  # a file's bytes, or an array; raises Unreadable
    label: str | None = None
    folder: str | None = None
    split: Split | None = None  # where the source has an official one
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What must be known before the first item is written."""

    count: int
    classes: tuple[str, ...] = ()
    index: dict[str, int] | None = None  # an item's label or folder -> its class
    refused: int = 0  # items that the first pass could not open
    left_alone: Mapping[str, int] = field(default_factory=dict)  # files that are no items, by suffix or rule
    notes: tuple[str, ...] = ()  # rules that were applied and that a person should know of
    captions: CaptionRule = "none"  # where captions come from; never `auto`
    groups: CaptionGroups | None = None  # items that a split must not part; None: there are none, or all would be one

    def class_of(self, item: Item) -> int | None:
        """The class index of an item, None for a set without classes. Raises Unreadable for one that the survey skipped."""
        if not self.classes:
            return None
        key = item.label if item.label is not None else item.folder
        found = (self.index or {}).get(key or "")
        if found is None:
            raise Unreadable("no-class", "no class could be read")
        return found

    def captions_of(self, item: Item) -> Cleaned:
        """What is said of an item. Raises Unreadable for one of a class that cannot be read."""
        at = self.class_of(item) if is_template(self.captions) else None
        name = "" if at is None else self.classes[at]
        return captions_by(self.captions, item.captions, folder=item.folder, class_name=name)


class Source(Protocol):
    """A place that items come from."""

    modality: str
    locked: bool  # its bytes are fixed by a lock of this project, and its manifest carries no report

    @property
    def kind(self) -> str: ...  # for dataset.json

    @property
    def where(self) -> str: ...  # for messages

    def survey(self, reader: ItemReader, advance: Advance) -> Survey:
        """Show the reader every item, or one where all are alike, and say how many there are."""
        ...

    def items(self, reader: ItemReader) -> Iterator[Item]:
        """Every item in an order that is always the same."""
        ...


@dataclass(frozen=True)
class Opening:
    """How to open a source. `classes`: whether folders are; `captions`: where they are; `modality`: of the files at a path."""

    cache: Path
    mirror: str | None = None
    progress: bool = False
    classes: ClassRule = "auto"
    captions: CaptionRule = "none"
    modality: str = "image"
