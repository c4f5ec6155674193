"""What a source gives: items, one after another, and a survey of them all. Neither holds the set in memory.

H, W pixels; C channels, 1 (grey) or 3 (red, green, blue).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from components.core.errors import DataError
from components.data.splits import Split
from components.runtime.progress import Advance

Pixels = npt.NDArray[np.uint8]  # [H, W, C]
MAX_FILE_BYTES = 256 << 20


class Unreadable(DataError):
    """One item that cannot be used; it goes into quarantine under `reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Item:
    """One picture, not read yet. `read` must be called before the next item is asked for.

    `name` can be shown and stored anywhere. `label` is the class as the source writes it, `folder` the folder it lies in: the
    class where no item has a label.
    """

    name: str
    read: Callable[[], Pixels | bytes]  # pixels, or an encoded picture; raises Unreadable
    label: str | None = None
    folder: str | None = None
    split: Split | None = None  # where the source has an official one


@dataclass(frozen=True)
class Survey:
    """What must be known before the first item is written."""

    count: int
    size: tuple[int, int] | None  # H, W of every item; None: they differ
    channels: int
    classes: tuple[str, ...] = ()
    index: dict[str, int] | None = None  # an item's label or folder -> its class
    mixed: str = ""  # two different sizes, for the message
    refused: int = 0  # items that the first pass could not open
    largest: int | None = None  # level of pictures of more than eight bits a channel; None: there are none
    transparent: int = 0  # pictures with an alpha channel or a transparent colour
    left_alone: Mapping[str, int] = field(default_factory=dict)  # files that are no items, by suffix or rule
    notes: tuple[str, ...] = ()  # rules that were applied and that a person should know of

    def class_of(self, item: Item) -> int | None:
        """The class index of an item, None for a set without classes. Raises Unreadable for one that the survey skipped."""
        if not self.classes:
            return None
        key = item.label if item.label is not None else item.folder
        found = (self.index or {}).get(key or "")
        if found is None:
            raise Unreadable("no-class", "no class could be read")
        return found


class Source(Protocol):
    """A place that pictures come from."""

    @property
    def kind(self) -> str: ...  # for dataset.json

    @property
    def where(self) -> str: ...  # for messages

    def survey(self, advance: Advance) -> Survey: ...

    def items(self) -> Iterator[Item]: ...
