"""Members of a tar as samples, by the rules of WebDataset: members in a row that share their name up to the first dot.

`000017.jpg`, `000017.cls`, `000017.txt`, `000017.mask.png` are one sample: one picture (the one with no inner dot), one label
(sample_labels.py), captions (the .txt, one a line). Members of a sample that do not stand in a row would be taken apart, and
their labels lost: that is refused. A tar of plain pictures is the special case of one member a sample. Layout:
https://github.com/webdataset/webdataset.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.core.modality import MAX_FILE_BYTES, Unreadable
from components.data.sources.caption_rules import CaptionRule
from components.data.sources.captions import lines_of
from components.data.sources.item import Item
from components.data.sources.label_values import GO_ON
from components.data.sources.left_alone import SIDECAR, Tally, kind_of
from components.data.sources.names import shown
from components.data.sources.sample_labels import SampleLabels
from components.data.sources.survey import parent_of

PICTURES_HELD = 16  # of one sample: more share their first dot by chance, as IMG.2020.001.jpg does
Member = tuple[PurePosixPath, bytes | None]  # data of pictures and of what may be labels; None: neither read nor used


@dataclass
class _Sample:
    labels: SampleLabels
    key: str = ""
    companions: list[str] = field(default_factory=list)  # suffixes of what is no picture
    pictures: list[tuple[str, Item]] = field(default_factory=list)  # what follows the first dot, and the picture
    plain: bool = False  # too many pictures to be one sample
    labelled: bool = True  # every picture of it that was yielded
    text: tuple[PurePosixPath, bytes] | None = None  # what may hold its captions


class Samples:
    """Turns the members of one or more tars into items, and counts what is left alone.

    After the last member `finish` refuses what was taken apart. Without `want_labels` none is read, and none refused.
    """

    def __init__(
        self, *, where: str, suffixes: frozenset[str], left: Tally, want_labels: bool = True, captions: CaptionRule = "none"
    ) -> None:
        self.where = where
        self.suffixes = suffixes
        self.want_labels = want_labels
        self.captions = captions
        self.left = left
        self.unlabelled = 0
        self.labels_alone: list[str] = []  # keys of labels that no picture stood beside, the first
        self.count_alone = 0
        self.unnamed: dict[str, str] = {}  # extension of pictures in samples without a main one -> the sample

    def of(self, members: Iterable[Member], *, tar: str) -> Iterator[Item]:
        """The items of one tar. Raises DataError for a sample that has two pictures, or labels, of equal right."""
        sample = _Sample(SampleLabels(self.where))
        for inside, data in members:
            stem, _, extension = inside.name.partition(".")
            key = str(inside.parent / stem)
            if key != sample.key:
                yield from self._end(sample)
                sample = _Sample(SampleLabels(self.where), key)
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
            label = sample.labels.label(sample.key)
            sample.labelled &= label is not None
            yield from self._all(sample, label)
            sample.pictures = []

    def _add_companion(self, sample: _Sample, inside: PurePosixPath, extension: str, data: bytes | None) -> None:
        sample.companions.append(extension)
        if f".{extension}" == SIDECAR and data is not None and self.captions in ("auto", "sidecar"):
            sample.text = inside, data
        else:
            self._add_other(sample, inside, extension, data)

    def _add_other(self, sample: _Sample, inside: PurePosixPath, extension: str, data: bytes | None) -> None:
        if not (self.want_labels and sample.labels.add(inside, extension, data)):
            self.left[kind_of(inside)] += 1

    def _end(self, sample: _Sample) -> Iterator[Item]:
        """The item of a sample that is whole."""
        main = [item for extension, item in sample.pictures if "." not in extension]
        captions = self._captions(sample, of_one=len(main) == 1)
        label = sample.labels.label(sample.key)
        beside = bool(sample.pictures) or sample.plain
        sample.labels.leave(self.left, label, suffixes=self.suffixes, beside_picture=beside)
        if label is not None and not sample.pictures and not (sample.plain and sample.labelled):
            self.labels_alone = self.labels_alone or [shown(sample.key)]
            self.count_alone += 1
            return
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
            yield replace(main[0], label=label, captions=captions)
            return
        if len(sample.pictures) > 1 and not main:
            self._check_unnamed(sample)
        yield from self._all(sample, label)

    def _captions(self, sample: _Sample, *, of_one: bool) -> tuple[str, ...]:
        """What the text of a sample with one picture says of it; beside any other it is a file like others."""
        if sample.text is None:
            return ()
        inside, data = sample.text
        if not of_one:
            self._add_other(sample, inside, SIDECAR[1:], data)
            return ()
        self.left.beside += 1
        if self.captions == "auto" and self.want_labels:
            self.left.hold(inside, data)
        return lines_of(data)

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
