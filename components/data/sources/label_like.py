"""Files that look like labels and are not read: such a file ends a preparation, so that no label is lost in silence.

What is looked for: a table with a column of labels; a list of pictures with one word each; JSON of the same; other formats by
their name. Boxes, captions and lists of class names are no labels of pictures.
"""

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from components.core.errors import DataError
from components.data.sources.label_files import DAMAGED, FILES, decoded, table_rows
from components.data.sources.label_values import GO_ON, label_of
from components.data.sources.names import shown

COLUMN = re.compile(r"labels?|targets?|cls|(?:class|category|label)(?:_(?:id|name|label))?", re.IGNORECASE)
PICTURE_COLUMN = re.compile(r"(?:file|image|img)(?:_?(?:name|path|id))?|path|id|name", re.IGNORECASE)
NAMED = re.compile(r"(?:.*[-_. ])?(?:labels?|targets?|y)(?:[-_. ].*)?", re.IGNORECASE)
TABLES, LISTS, BINARY = (".csv", ".tsv"), (".txt", ".lst"), (".npy", ".parquet", ".arrow", ".feather", ".mat", ".pkl", ".xlsx")
SUFFIXES = frozenset((*TABLES, *LISTS, ".json", ".jsonl", *BINARY))
HEAD_BYTES = 1 << 20  # of a file that is looked at
NO_LABELS = re.compile(rb'"labels"\s*:\s*null')  # what stylegan2-ada's tool writes for a set without any
LINES = 20


def check_unread(inside: PurePosixPath, head: bytes, *, suffixes: frozenset[str], where: str) -> None:
    """Raises DataError for a file that looks like labels; `head`: its first HEAD_BYTES; `suffixes`: those of pictures."""
    if found := labels_in(inside, head, suffixes=suffixes):
        raise DataError(
            f"{where}: {shown(str(inside))}: holds labels ({found}) that cannot be read",
            allowed="a metadata.csv with the columns file_name and label",
            do=f"write it so; {GO_ON}, --classes folders takes the folders as classes",
        )


def labels_in(inside: PurePosixPath, head: bytes, *, suffixes: frozenset[str]) -> str:
    """By what a file looks like labels; empty where it does not."""
    suffix, named = inside.suffix.lower(), NAMED.fullmatch(inside.stem) is not None
    if suffix in BINARY:
        return "by its name" if named or inside.stem == "metadata" else ""
    try:
        text = decoded(head, errors="replace")
        if suffix in (".json", ".jsonl"):
            document = json.loads(text if suffix == ".json" else text.partition("\n")[0])
            of_stylegan = inside.name == "dataset.json" and isinstance(document, dict) and document.get("labels")
            return "labels" if of_stylegan else _in_json(document, suffixes)
        found = _in_table(table_rows(text), suffixes, is_list=suffix in LISTS) if suffix in SUFFIXES else ""
        return found or ("by its name" if named and suffix in TABLES else "")
    except DAMAGED:  # or longer than its head
        in_text = inside.name in FILES and b"label" in head and not NO_LABELS.search(head)
        return "by its name" if in_text or (named and suffix not in LISTS) else ""


def _in_table(rows: Sequence[Sequence[str]], suffixes: frozenset[str], *, is_list: bool) -> str:
    if not rows:
        return ""
    columns = [cell.lower() for cell in rows[0]]
    column = next((name for name in columns if COLUMN.fullmatch(name)), "")
    if column and len(columns) > 1 and (not is_list or any(map(PICTURE_COLUMN.fullmatch, columns))):
        return column
    pairs = [row if len(row) > 1 else row[0].split() for row in rows[:LINES]]
    listed = all(len(pair) == 2 and _is_picture(pair[0], suffixes) and _is_word(pair[1]) for pair in pairs)
    return "a word beside each picture" if listed else ""


def _in_json(document: Any, suffixes: frozenset[str]) -> str:
    """A mapping or pairs of pictures and labels, an object or objects with a key of labels."""
    if isinstance(document, dict) and isinstance(document.get("labels"), dict | list):
        return _in_json(document["labels"], suffixes)
    if isinstance(document, dict):
        if column := next((key for key in document if COLUMN.fullmatch(key) and label_of(document[key]) is not None), ""):
            return shown(column)
        document = list(document.items())
    if not isinstance(document, list) or not document:
        return ""
    rows = document[:LINES]
    if all(isinstance(row, dict) for row in rows):
        return _in_json(rows[0], suffixes)
    pairs = all(isinstance(row, list | tuple) and len(row) == 2 and _is_picture(row[0], suffixes) for row in rows)
    return "a label beside each picture" if pairs and all(_is_word(row[1]) or _is_labelled(row[1]) for row in rows) else ""


def _is_labelled(given: Any) -> bool:
    return isinstance(given, dict) and any(map(COLUMN.fullmatch, given))


def _is_picture(given: Any, suffixes: frozenset[str]) -> bool:
    return isinstance(given, str) and PurePosixPath(given).suffix.lower() in suffixes


def _is_word(given: Any) -> bool:
    """A label, and no caption."""
    return not re.search(r"\s", label_of(given) or " ")
