"""The first pass over encoded pictures: how many, how large, grey or coloured, which classes. Decodes headers only, and whole
pictures only where they have more than eight bits a channel.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.data.images import Header, header_of
from components.data.sources.classes import MAX_CLASSES, ClassRule, RunningNumbers, classes_of_folders, ordered
from components.data.sources.item import Item, Survey, Unreadable
from components.data.sources.left_alone import FRAMES, Tally
from components.runtime.progress import Advance


class _Seen:
    """What the pictures have shown so far."""

    def __init__(self) -> None:
        self.count = self.refused = self.unlabelled = self.transparent = self.frames = self.deep = 0
        self.grey = True
        self.largest: int | None = None
        self.labels: set[str] = set()
        self.folders: set[str] = set()
        self.sizes: dict[tuple[int, int], None] = {}
        self.numbers = RunningNumbers()
        self.first_unlabelled = ""

    def add(self, item: Item, header: Header) -> None:
        if len(self.sizes) < 2:
            self.sizes[header.size] = None
        self.grey = self.grey and header.grey
        self.transparent += header.transparent
        self.frames += header.frames - 1
        if header.largest is not None:
            self.deep += 1
            self.largest = max(self.largest or 0, header.largest)
        if item.label is not None:
            self.labels.add(item.label)
            return
        self.unlabelled += 1
        self.first_unlabelled = self.first_unlabelled or item.name
        self.folders.add(item.folder or "")
        self.numbers.add(item.folder or "", item.name)


def survey_encoded(
    items: Iterable[Item], *, where: str, advance: Advance, left_alone: Tally | None = None, rule: ClassRule = "auto"
) -> Survey:
    """Survey pictures whose classes are their labels, or else their folders. Raises DataError for a set at odds with itself.

    `left_alone` is filled by whoever yields the items, and read when they have ended.
    """
    seen = _Seen()
    for item in items:
        seen.count += 1
        advance(1)
        try:
            data = item.read()
            assert isinstance(data, bytes)
            seen.add(item, header_of(data))
        except Unreadable:
            seen.refused += 1  # the second pass puts it into quarantine
        if len(seen.labels) > MAX_CLASSES or len(seen.folders) > MAX_CLASSES:
            raise DataError(f"{where}: more than {MAX_CLASSES} classes", do="put pictures of one class into one folder")
    left = Counter(left_alone or {})
    if left[".cls"] and rule != "none":
        raise DataError(
            f"{where}: {left['.cls']} labels (.cls) lie beside the pictures, and only a tar's are read",
            do="pack it: tar --sort=name -cf set.tar -C FOLDER ., or give --classes none",
        )
    classes, index, notes = _classes(seen, where=where, rule=rule)
    left.update({FRAMES: seen.frames} if seen.frames else {})
    return Survey(
        count=seen.count,
        size=next(iter(seen.sizes)) if len(seen.sizes) == 1 else None,
        channels=1 if seen.grey else 3,
        classes=classes,
        index=index,
        mixed=" and ".join(f"{height}x{width}" for height, width in seen.sizes),
        refused=seen.refused,
        largest=seen.largest,
        transparent=seen.transparent,
        left_alone=dict(left),
        notes=notes,
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
