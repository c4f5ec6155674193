"""The captions that the files of a set hold: rows of metadata files, or texts beside the pictures (`NAME.txt`, one a line).

The names in a metadata file are relative to its folder, and matched as those of labels are (labels.py).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.data.sources.caption_rules import CaptionRule
from components.data.sources.label_files import METADATA, read_captions
from components.data.sources.labels import key_of_name
from components.data.sources.left_alone import SIDECAR, Tally
from components.data.sources.names import is_hidden, shown

GO_ON = "--captions none goes on without captions"


class Captions:
    """Picture (its path in the set) -> what is said of it. Raises DataError for metadata that cannot be read."""

    def __init__(
        self,
        rule: CaptionRule,
        files: Iterable[PurePosixPath],
        read: Callable[[PurePosixPath], bytes],
        *,
        suffixes: frozenset[str],
        where: str,
    ) -> None:
        self.where = where
        self.read: set[PurePosixPath] = set()  # metadata files whose texts are used
        self._rule, self._read = rule, read
        self._found: dict[str, list[str]] = defaultdict(list)
        self._file_of: dict[str, PurePosixPath] = {}  # the first that names a picture
        self._used: Counter[PurePosixPath] = Counter()
        self._beside: dict[str, PurePosixPath] = {}  # a picture's path without its suffix -> the text there
        if rule not in ("auto", "metadata", "sidecar"):
            return
        stems, texts = set(), {}
        for inside in files:
            if is_hidden(inside):
                continue
            if inside.suffix.lower() in suffixes:
                stems.add(_stem(inside))
            elif inside.suffix.lower() == SIDECAR and rule != "metadata":
                texts[_stem(inside)] = inside
            elif inside.name in METADATA and rule != "sidecar":
                self._add(inside, read(inside))
        if not self._found:
            self._beside = {stem: inside for stem, inside in texts.items() if stem in stems}

    @property
    def used(self) -> set[PurePosixPath]:
        """Files that hold captions."""
        return self.read | set(self._beside.values())

    @property
    def asked(self) -> set[PurePosixPath]:
        """Files that the user calls captions, and that are no labels therefore."""
        return set(self._beside.values()) if self._rule == "sidecar" else set()

    def of(self, inside: PurePosixPath) -> tuple[str, ...]:
        """The captions of a picture, as they are written; none without any. To be asked once for each."""
        if (text := self._beside.get(_stem(inside))) is not None:
            return lines_of(self._read(text))
        key = key_of_name(inside)
        self._used[self._file_of.get(key, PurePosixPath())] += 1
        return tuple(self._found.get(key, ()))

    def finish(self, tally: Tally) -> None:
        """Count the captions that no picture took. Raises DataError for a file whose names are of no picture at all."""
        tally.beside += len(self._beside)
        for file, given in Counter(self._file_of.values()).items():
            if not self._used[file]:
                first = next(name for name, path in self._file_of.items() if path == file)
                raise DataError(
                    f"{self.where}: {shown(str(file))}: none of its {given:,} captions is of a picture here, "
                    f"first {shown(first)}",
                    allowed="names relative to the folder of the file, as the files are spelt",
                    do=f"mend the names; {GO_ON}",
                )
            if (left := given - self._used[file]) > 0:
                tally[f"captions without a picture in {shown(str(file))}"] += left

    def _add(self, path: PurePosixPath, data: bytes) -> None:
        pairs = read_captions(data, file=path.name, at=f"{self.where}: {shown(str(path))}", go_on=GO_ON)
        if not pairs:
            return
        self.read.add(path)
        for name, texts in pairs:
            key = key_of_name(path.parent / name.replace("\\", "/"))
            self._file_of.setdefault(key, path)
            self._found[key] += texts


def lines_of(data: bytes) -> tuple[str, ...]:
    """The captions of a text, one a line; what is not UTF-8 stays to be found. Empty lines at its end are none."""
    return tuple(data.decode("utf-8-sig", "surrogateescape").rstrip().split("\n"))


def _stem(inside: PurePosixPath) -> str:
    return str(inside.with_suffix(""))
