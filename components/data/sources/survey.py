"""The first pass over files: how many there are and which classes. What they are, the reader sees."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.core.modality import ItemReader, Unreadable
from components.data.sources.caption_rules import CaptionRule
from components.data.sources.caption_survey import SeenCaptions
from components.data.sources.classes import MAX_CLASSES, ClassRule, RunningNumbers, classes_of_folders, ordered
from components.data.sources.item import Item, Survey
from components.data.sources.left_alone import SIDECAR, Tally
from components.data.sources.mentions import check_mentions, names_as_classes
from components.runtime.progress import Advance

LABEL_SUFFIXES = (".cls", ".class", ".label", ".target")  # of a file that holds the label of one picture, in WebDataset


class _Seen:
    """What the files have shown so far."""

    def __init__(self) -> None:
        self.count = self.refused = self.unlabelled = 0
        self.labels: set[str] = set()
        self.folders: set[str] = set()
        self.numbers = RunningNumbers()
        self.first_unlabelled = ""
        self.names: list[str] = []

    def add(self, item: Item) -> None:
        if item.label is not None:
            self.labels.add(item.label)
            return
        self.unlabelled += 1
        self.names.append(item.name)
        self.first_unlabelled = self.first_unlabelled or item.name
        self.folders.add(item.folder or "")
        self.numbers.add(item.folder or "", item.name)


def survey_encoded(
    items: Iterable[Item],
    reader: ItemReader,
    *,
    where: str,
    advance: Advance,
    left_alone: Tally | None = None,
    rule: ClassRule = "auto",
    captions: CaptionRule = "none",
) -> Survey:
    """Survey files whose classes are their labels, or else their folders. Raises DataError for a set at odds with itself.

    `left_alone` is filled by whoever yields the items, and read when they have ended.
    """
    seen, said = _Seen(), SeenCaptions(captions)
    for item in items:
        seen.count += 1
        advance(1)
        try:
            data = item.read()
            reader.look(data)
            seen.add(item)
            said.add(item, data)
        except Unreadable:
            seen.refused += 1  # the second pass puts it into quarantine
        if len(seen.labels) > MAX_CLASSES or len(seen.folders) > MAX_CLASSES:
            raise DataError(f"{where}: more than {MAX_CLASSES} classes", do="put pictures of one class into one folder")
    left = Counter(left_alone or {})
    label = next((suffix for suffix in LABEL_SUFFIXES if left[suffix]), None)
    if label and rule == "auto":
        raise DataError(
            f"{where}: {left[label]} labels ({label}) lie beside the pictures, and only a tar's are read",
            do="pack it: tar --sort=name -cf set.tar -C FOLDER ., or give --classes none",
        )
    classes, index, notes = _classes(seen, where=where, rule=rule)
    beside = left_alone.beside if left_alone is not None else 0
    captions, doubts = said.settled(beside=beside, where=where)
    left[SIDECAR] += beside if captions != "sidecar" else 0
    if rule == "auto" and not classes and left_alone is not None:
        check_mentions(left_alone.texts, seen.names, where=where)
        notes += tuple(filter(None, [names_as_classes(seen.names)]))
    notes += doubts
    left.update(reader.left_alone())
    return Survey(
        count=seen.count,
        classes=classes,
        index=index,
        refused=seen.refused,
        left_alone=dict(+left),
        notes=notes,
        captions=captions,
        groups=said.groups if captions != "none" and said.captioned and said.groups.settle() else None,
    )


def _classes(seen: _Seen, *, where: str, rule: ClassRule) -> tuple[tuple[str, ...], dict[str, int], tuple[str, ...]]:
    if rule == "none":
        had = "labels" if seen.labels else "folders" if len(seen.folders) > 1 else ""
        return (), {}, ((f"no classes, as asked: the {had} are not used",) if had else ())
    if seen.labels and seen.unlabelled:
        raise DataError(
            f"{where}: {seen.unlabelled} pictures have no class and others have one, first {seen.first_unlabelled}",
            do="give each a label, or --classes none",
        )
    if seen.labels:
        return *ordered({label: label for label in seen.labels}, where=where), ()
    names, notes = classes_of_folders(seen.folders, where=where, numbers=seen.numbers if rule == "auto" else None)
    return *ordered(names, where=where), notes


def parent_of(inside: PurePosixPath) -> str:
    """The folder a picture lies in; empty at the top."""
    return "" if inside.parent == PurePosixPath() else str(inside.parent)
