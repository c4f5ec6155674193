"""Files left alone that speak of the pictures: in a set without classes they may be its labels, and end the preparation.

The law: a file that names at least half of the pictures beside a column of few short values; files that lie beside at least half
of the pictures and hold few short values; a file whose name says labels. Captions and checksums differ from picture to picture,
and what a camera writes is known by its columns: none of these are labels.
"""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from components.core.errors import DataError
from components.data.sources.label_like import HEAD_BYTES, NAMED
from components.data.sources.label_values import GO_ON
from components.data.sources.left_alone import SIDECAR
from components.data.sources.mention_rows import BINARY, Rows, rows_of, unpacked
from components.data.sources.names import shown

PROSE = frozenset([".md", ".rst", ".html", ".htm", ".py", ".ipynb", ".sh", ".log", ".tex", ".pdf", ".doc", ".docx", ".bib"])
PROPERTY = re.compile(
    r".*(?:width|height|size|bytes|channels|format|mode|status|url|link|licen[cs]e|author|credit|copyright|source|date|time|year|"
    r"md5|sha\d*|hash|checksum|split|subset|fold|lang|orientation|camera|lens|iso|exposure|flash|focal|gps|error|"
    r"mime|extension|suffix|index|path|file_?name|bbox|boxes|box|segmentation|area|iscrowd|x_?min|x_?max|y_?min|y_?max|captions?|text|"
    r"prompt|description|title|nsfw|shard(?:_?id)?|similarity|aesthetic|watermark|score|user|owner)(?![a-z]).*",
    re.IGNORECASE,
)  # of a file or a place in it, not of what is seen
CAMERA = re.compile(r"sourcefile|exposuretime|fnumber|focallength|exif.*|exiftool.*|datetimeoriginal", re.IGNORECASE)
SHORT = 64  # characters of a label at most
FEW = 2  # pictures a value has, on average, where the values are labels
Texts = Mapping[PurePosixPath, bytes]


def check_mentions(texts: Texts, names: Iterable[str], *, where: str) -> None:
    """Raises DataError for the first file left alone (-> its first bytes) that may hold the labels of the pictures `names`."""
    keys = {form: key for key in map(_key, names) for form in (key, _stem(key))}
    stems = {_stem(key) for key in keys.values()}
    beside: dict[str, dict[PurePosixPath, bytes]] = defaultdict(dict)
    for path, data in texts.items():
        if _stem(_key(shown(path.name))) in stems:
            beside[path.suffix.lower()][path] = data
        elif path.suffix.lower() not in PROSE and (found := _of_set(path, data, keys)):
            _refuse(path, found, where)
    count = len(set(keys.values()))
    for suffix, files in beside.items():
        if 2 * len(files) >= count and (found := _of_each(files)):
            _refuse(min(files), found, where, or_else="; --captions sidecar takes them as captions" if suffix == SIDECAR else "")


def _refuse(path: PurePosixPath, found: str, where: str, *, or_else: str = "") -> None:
    raise DataError(
        f"{where}: {shown(str(path))}: seems to hold labels ({found}) that are not read",
        allowed="a metadata.csv with the columns file_name and label",
        do=f"write it so, or make each class a folder; {GO_ON}{or_else}",
    )


def _of_set(path: PurePosixPath, data: bytes, keys: Mapping[str, str]) -> str:
    path, data = unpacked(path, data)
    count = len(set(keys.values()))
    says = NAMED.fullmatch(path.stem) is not None
    if says and (path.suffix.lower() in BINARY or b"\0" in data[:4096]):
        return "by its name"
    rows = rows_of(path, data, lambda cell: _key(cell) in keys)
    if rows is None:
        return "by its name" if says else ""
    if found := _column(rows, keys, count, whole=len(data) < HEAD_BYTES):
        return found
    return "by its name, and a line for each picture" if says and 2 * len(rows.cells) >= count else ""


def _column(rows: Rows, keys: Mapping[str, str], count: int, *, whole: bool) -> str:
    """The column of few short values beside the names of pictures; `count` pictures. Of a file cut off the rows must do."""
    width = max(map(len, rows.cells), default=0)
    if width < 2 or any(map(CAMERA.fullmatch, rows.head)):
        return ""
    named = [{keys[key] for row in rows.cells if at < len(row) and (key := _key(row[at])) in keys} for at in range(width)]
    at = max(range(width), key=lambda each: len(named[each]))
    if 2 * len(named[at]) < (count if whole else min(count, len(rows.cells))):
        return ""
    for other in range(width):
        head = rows.head[other] if other < len(rows.head) else ""
        pairs = {(keys[key], row[other]) for row in rows.cells if max(at, other) < len(row) and (key := _key(row[at])) in keys}
        if other != at and not PROPERTY.fullmatch(head) and _few([value for _, value in pairs]):
            return f"{shown(head) or 'a value'} beside each picture"
    return ""


def _of_each(files: Mapping[PurePosixPath, bytes]) -> str:
    texts = [data.decode("utf-8", "replace").strip() for data in files.values()]
    if next(iter(files)).suffix.lower() != ".json":
        return "few short values beside the pictures" if _few(texts) else ""
    columns: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            continue
        for key, value in _leaves(document):
            columns[key].append(value)
    for key, values in columns.items():
        if 2 * len(values) >= len(texts) and not PROPERTY.fullmatch(key) and _few(values):
            return f"{shown(key)} beside each picture"
    return ""


def _leaves(document: object) -> Iterable[tuple[str, str]]:
    for key, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, dict):
            yield from ((f"{key}.{below}", str(each)) for below, each in value.items() if isinstance(each, str | int))
        elif isinstance(value, str | int):
            yield str(key), str(value)


def _few(values: Sequence[str]) -> bool:
    """Whether these are classes: some, short, each of several pictures on average, and no measures."""
    kinds = set(values) - {""}
    short = all(
        len(each) <= SHORT and each.isprintable() and not re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", each) for each in kinds
    )
    return len(kinds) > 1 and FEW * len(kinds) <= len(values) and short


def _key(name: str) -> str:
    """What two spellings of one picture's name share: its last part, in small letters."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2]).casefold()


def _stem(key: str) -> str:
    head, dot, suffix = key.rpartition(".")
    return head if dot and head and 0 < len(suffix) <= 5 else key


def names_as_classes(names: Iterable[str]) -> str:
    """A note where the names of pictures seem to say their class, as cat.0.png and dog_001.png do; else empty."""
    starts: dict[str, int] = defaultdict(int)
    for name in names:
        found = re.fullmatch(r"(.*[^\W\d_])[-_. ]?\(?\d+\)?", PurePosixPath(name).stem)
        starts[found[1] if found else ""] += 1
    if "" in starts or not len(starts) > 1 or min(starts.values()) < FEW * 2:
        return ""
    few = ", ".join(map(shown, sorted(starts)[:4]))
    return f"names of pictures begin with {few}: if these are classes, make each a folder; names are not read as labels"
