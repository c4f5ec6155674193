"""Members of a tar as samples, by the rules of WebDataset: members in a row that share their name up to the first dot.

`000017.jpg`, `000017.cls`, `000017.mask.png` are one sample: one picture (the one with no inner dot), one label (the same; one
of `000017.target.cls` alone is taken, too). Members of a
sample that do not stand in a row would be taken apart, and their labels lost: that is refused. A tar of plain pictures is the
special case of one member a sample. Layout: https://github.com/webdataset/webdataset.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from components.core.errors import DataError
from components.core.modality import MAX_FILE_BYTES, Unreadable
from components.data.sources.item import Item
from components.data.sources.label_like import labels_in
from components.data.sources.label_values import ALLOWED, GO_ON, label_of
from components.data.sources.left_alone import Tally, kind_of
from components.data.sources.names import shown
from components.data.sources.survey import LABEL_SUFFIXES, parent_of

MAX_LABEL_BYTES = 256
LABEL_KEYS = ("label", "class", "cls")  # of a sample's .json
LABEL_PARTS = re.compile(r"(?:^|.*[._-])(?:cls|class|labels?|targets?)\d*(?:[._-].*|$)", re.IGNORECASE)  # of an extension
IN_JSON = re.compile(rb'"(?:label|class|cls)"\s*:(?!\s*null)')
PICTURES_HELD = 16  # of one sample: more share their first dot by chance, as IMG.2020.001.jpg does
Member = tuple[PurePosixPath, bytes | None]  # data of pictures and of what may be labels; None: neither read nor used


@dataclass
class _Sample:
    key: str = ""
    labels: dict[str, str] = field(default_factory=dict)  # the extension of a label file -> what it says
    doubtful: list[tuple[PurePosixPath, bytes]] = field(default_factory=list)  # .json, and what looks like labels
    companions: list[str] = field(default_factory=list)  # suffixes of what is no picture
    pictures: list[tuple[str, Item]] = field(default_factory=list)  # what follows the first dot, and the picture
    plain: bool = False  # too many pictures to be one sample
    labelled: bool = True  # every picture of it that was yielded


class Samples:
    """Turns the members of one or more tars into items, and counts what is left alone.

    After the last member `finish` refuses what was taken apart. Without `want_labels` none is read, and none refused.
    """

    def __init__(self, *, where: str, suffixes: frozenset[str], left: Tally, want_labels: bool = True) -> None:
        self.where = where
        self.suffixes = suffixes
        self.want_labels = want_labels
        self.left = left
        self.unlabelled = 0
        self.labels_alone: list[str] = []  # keys of labels that no picture stood beside, the first
        self.count_alone = 0
        self.unnamed: dict[str, str] = {}  # extension of pictures in samples without a main one -> the sample

    def of(self, members: Iterable[Member], *, tar: str) -> Iterator[Item]:
        """The items of one tar. Raises DataError for a sample that has two pictures, or labels, of equal right."""
        sample = _Sample()
        for inside, data in members:
            stem, _, extension = inside.name.partition(".")
            key = str(inside.parent / stem)
            if key != sample.key:
                yield from self._end(sample)
                sample = _Sample(key)
            if inside.suffix.lower() in self.suffixes and data is not None:
                item = Item(name=shown(f"{tar}/{inside}"), read=_reader(data), folder=parent_of(inside))
                yield from self._add_picture(sample, extension, item)
            else:
                self._add_companion(sample, inside, extension, data)
        yield from self._end(sample)

    def finish(self) -> None:
        """Raises DataError where labels and pictures stand apart; labels of no picture at all are left alone."""
        if self.count_alone and self.unlabelled:
            raise DataError(
                f"{self.where}: the label of sample {self.labels_alone[0]} does not stand beside its picture, nor do "
                f"{self.count_alone - 1} others; {self.unlabelled} pictures have no label",
                allowed="members of a sample in a row",
                do=f"pack them sorted by name (tar --sort=name); {GO_ON}",
            )
        if self.count_alone:
            self.left[".cls without a picture"] += self.count_alone

    def _add_picture(self, sample: _Sample, extension: str, item: Item) -> Iterator[Item]:
        sample.pictures.append((extension, item))
        if sample.plain or len(sample.pictures) > PICTURES_HELD:
            sample.plain = True
            label = self._label(sample)
            sample.labelled &= label is not None
            yield from self._all(sample, label)
            sample.pictures = []

    def _add_companion(self, sample: _Sample, inside: PurePosixPath, extension: str, data: bytes | None) -> None:
        sample.companions.append(extension)
        if self.want_labels and data is not None and inside.suffix.lower() in LABEL_SUFFIXES:
            sample.labels[extension] = self._text(data, inside)
        elif self.want_labels and (data is not None or LABEL_PARTS.fullmatch(extension)):
            sample.doubtful.append((inside, data or b""))
        else:
            self.left[kind_of(inside)] += 1

    def _text(self, data: bytes, inside: PurePosixPath) -> str:
        text = data.decode("utf-8", "surrogateescape").strip()
        if not text or len(data) > MAX_LABEL_BYTES:
            given = "empty" if not text else f"longer than {MAX_LABEL_BYTES} bytes"
            raise DataError(
                f"{self.where}: the label {shown(str(inside))} is {given}", do=f"write one whole number or name; {GO_ON}"
            )
        return text

    def _json_label(self, data: bytes, inside: PurePosixPath) -> str | None:
        """Of a sample's .json; None where it holds none, or a null. Raises DataError for one that is no label."""
        if inside.suffix != ".json":
            return None
        at = f"{self.where}: {shown(str(inside))}"
        try:
            document: Any = json.loads(data)
        except (ValueError, RecursionError):
            if IN_JSON.search(data):
                raise DataError(f"{at}: a label in it cannot be read", allowed="JSON of less than 1 MiB", do=GO_ON) from None
            return None
        given = next((document[key] for key in LABEL_KEYS if key in document), None) if isinstance(document, dict) else None
        label = label_of(given)
        if label is None and given not in (None, ""):
            shown_label = shown(repr(given))[:60]
            raise DataError(f"{at} has the label {shown_label}", allowed=ALLOWED, do=f"give one label a picture; {GO_ON}")
        return label

    def _label(self, sample: _Sample) -> str | None:
        """NAME.cls, else the one of NAME.x.cls, else what NAME.json says."""
        main = self._main_labels(sample)
        if len({sample.labels[extension] for extension in main}) > 1:
            both = " and ".join(f".{shown(each)}" for each in main[:2])
            raise DataError(
                f"{self.where}: sample {shown(sample.key)} has {len(main)} labels of equal right ({both})",
                allowed="one NAME.cls a sample",
                do=f"rename the one to learn from, or remove the others; {GO_ON}",
            )
        if main:
            return sample.labels[main[0]]
        found = (self._json_label(data, inside) for inside, data in sample.doubtful if inside.name.count(".") == 1)
        return next((label for label in found if label is not None), None)

    def _main_labels(self, sample: _Sample) -> list[str]:
        return [extension for extension in sample.labels if "." not in extension] or list(sample.labels)

    def _leave(self, sample: _Sample, label: str | None) -> None:
        """Count what is not used. Raises DataError for what looks like labels in a sample that has none."""
        for extension in sample.labels.keys() - self._main_labels(sample)[:1]:
            self.left[f".{shown(extension)}"[:20]] += 1
        for inside, data in sample.doubtful:
            if label is not None and not sample.labels and inside.suffix == ".json" and self._json_label(data, inside) == label:
                continue  # it was read
            if label is None:
                self._check_doubtful(inside, data, beside_picture=bool(sample.pictures) or sample.plain)
            self.left[kind_of(inside)] += 1

    def _check_doubtful(self, inside: PurePosixPath, data: bytes, *, beside_picture: bool) -> None:
        """Raises DataError for what looks like labels. A tar is read as a stream: those of a set may come after the pictures."""
        _, _, extension = inside.name.partition(".")
        found = labels_in(inside, data, suffixes=self.suffixes) or ("by its name" if LABEL_PARTS.fullmatch(extension) else "")
        if found and beside_picture:
            raise DataError(
                f"{self.where}: {shown(str(inside))}: holds labels ({found}) that cannot be read",
                allowed="NAME.cls with one whole number or name, or NAME.json with a label",
                do=f"write it so; {GO_ON}",
            )
        if found:
            raise DataError(
                f"{self.where}: the labels in {shown(str(inside))} are not read from a tar",
                do=f"unpack it, or pack it as a zip; {GO_ON}",
            )

    def _end(self, sample: _Sample) -> Iterator[Item]:
        """The item of a sample that is whole."""
        label = self._label(sample)
        self._leave(sample, label)
        if label is not None and not sample.pictures and not (sample.plain and sample.labelled):
            self.labels_alone = self.labels_alone or [shown(sample.key)]
            self.count_alone += 1
            return
        main = [item for extension, item in sample.pictures if "." not in extension]
        if len(main) > 1 and sample.companions:
            raise DataError(
                f"{self.where}: sample {shown(sample.key)} has {len(main)} pictures of equal right",
                allowed="one NAME.jpg a sample, others as NAME.mask.png",
                do="rename or remove the others",
            )
        if len(main) == 1:
            for extension, _ in sample.pictures:
                if "." in extension:
                    self.left[f"second pictures of a sample (.{shown(extension.lower())[:20]})"] += 1
            self.unlabelled += label is None
            yield replace(main[0], label=label)
            return
        if len(sample.pictures) > 1 and not main:
            self._check_unnamed(sample)
        yield from self._all(sample, label)

    def _check_unnamed(self, sample: _Sample) -> None:
        """Samples of NAME.image.png and NAME.mask.png: nothing says which of the two is the picture."""
        for extension, _ in sample.pictures:
            before = self.unnamed.setdefault(extension, sample.key)
            if before != sample.key:
                both = " and ".join(f".{shown(each)}" for each, _ in sample.pictures[:2])
                raise DataError(
                    f"{self.where}: samples hold several pictures ({both}) and none is NAME.jpg or NAME.png",
                    allowed="one picture with no inner dot a sample",
                    do="rename the one to learn from, or pack it alone",
                )

    def _all(self, sample: _Sample, label: str | None) -> Iterator[Item]:
        for _, item in sample.pictures:
            self.unlabelled += label is None
            yield replace(item, label=label)


def _reader(data: bytes) -> Callable[[], bytes]:
    def read() -> bytes:
        if len(data) > MAX_FILE_BYTES:
            raise Unreadable("oversized", f"more than {MAX_FILE_BYTES >> 20} MiB")
        return data

    return read
