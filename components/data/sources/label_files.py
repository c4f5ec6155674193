"""How files say the labels or captions of a set: stylegan2-ada's dataset.json, Hugging Face's metadata.csv and metadata.jsonl.

dataset.json: {"labels": [["00000/img00000000.png", 6], ...]} or {"labels": null}
(https://github.com/NVlabs/stylegan2-ada-pytorch, dataset_tool.py). metadata: a row a picture with file_name and label, or
file_name and text, caption or captions (https://huggingface.co/docs/datasets/image_dataset).
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from components.core.errors import DataError
from components.data.sources.label_values import ALLOWED, GO_ON, label_of
from components.data.sources.names import shown

METADATA = ("metadata.csv", "metadata.jsonl")
FILES = ("dataset.json", *METADATA)
TEXTS = ("text", "caption", "captions")  # columns of what is said of a picture
SEPARATORS = ",;\t|"
DAMAGED = (ValueError, csv.Error, RecursionError)  # ValueError: no UTF-8, no JSON, a number of thousands of digits
Pairs = list[tuple[str, str]]  # a picture's name as the file writes it, and its label
Row = Mapping[str | None, Any]  # None: cells beyond the first row's


def read_labels(data: bytes, *, file: str, at: str) -> Pairs | None:
    """The labels that a file of this name holds; none where it says that there are none. None for a file of another form.

    `at`: the file, for messages. Raises DataError for labels that cannot be read.
    """
    try:
        text = decoded(data, errors="strict")
        return _stylegan(text, at) if file == "dataset.json" else _metadata(text, file, at)
    except DAMAGED as error:
        raise DataError(f"{at}: cannot be read: {error}", do=f"write it again, in UTF-8; {GO_ON}") from error


def read_captions(data: bytes, *, file: str, at: str, go_on: str) -> list[tuple[str, list[str]]]:
    """Each row's picture, as a metadata file writes it, and what it says of it: nothing in a row without a text. Empty for a file
    that holds no texts.

    Several rows of one picture are several captions. `go_on`: what to do, for messages. Raises DataError.
    """
    try:
        rows = _rows(decoded(data, errors="strict"), file, at)
    except DAMAGED as error:
        raise DataError(f"{at}: cannot be read: {error}", do=f"write it again, in UTF-8; {go_on}") from error
    if not any("file_name" in row for row in rows) or all(_is_empty(row.get(column)) for row in rows for column in TEXTS):
        return []
    allowed = f"a file_name in every row, and one of {', '.join(TEXTS)}"
    _check(rows, lambda row: _is_empty(row.get("file_name")), "no file_name", at, allowed=allowed, do=go_on)
    _check(rows, lambda row: None in row, "more cells than the first row", at, allowed="a text with commas in quotes", do=go_on)
    return [(str(row["file_name"]), _texts(row, at, go_on)) for row in rows]


def _texts(row: Row, at: str, go_on: str) -> list[str]:
    found: list[str] = []
    for column in TEXTS:
        given = row.get(column)
        texts = given if isinstance(given, list) else [] if given is None else [given]
        for each in texts:
            if not isinstance(each, str):
                what = f"{at}: {shown(str(row['file_name']))} has the caption {_short(each)}"
                raise DataError(what, allowed="a text, or a list of texts", do=go_on)
        found += texts
    return found


def decoded(data: bytes, *, errors: Literal["strict", "replace"]) -> str:
    """UTF-8, or UTF-16 with its mark, as Excel writes it. Raises UnicodeDecodeError where errors are strict."""
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors)


def table_rows(text: str) -> list[list[str]]:
    """The cells of a table, without spaces around them; what separates them is what the first row has most of."""
    first = text.lstrip().partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=max(SEPARATORS, key=first.count), skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def _stylegan(text: str, at: str) -> Pairs | None:
    document = json.loads(text)
    if not isinstance(document, dict) or "labels" not in document:
        return None
    pairs = document["labels"] or []
    pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError(
                f"{at}: {_short(pair)} is no pair of file and label", do=f"write it as stylegan2-ada's tool does; {GO_ON}"
            )
    return [(str(name), _label(label, f"{at}: {shown(str(name))}")) for name, label in pairs]


def _metadata(text: str, file: str, at: str) -> Pairs | None:
    rows = _rows(text, file, at)
    if not any("file_name" in row for row in rows) or not any("label" in row for row in rows):
        return None  # captions, boxes; or labels of another form, which label_like.py knows
    if all(_is_empty(row.get("label")) for row in rows):
        return []
    wanted = {"allowed": "a file_name and one label in every row", "do": GO_ON}
    _check(rows, lambda row: _is_empty(row.get("file_name")), "no file_name", at, **wanted)
    _check(rows, lambda row: _is_empty(row.get("label")), "no label", at, **wanted)
    _check(rows, lambda row: None in row, "more cells than the first row", at, **wanted)
    return [(str(row["file_name"]), _label(row["label"], f"{at}: {shown(str(row['file_name']))}")) for row in rows]


def _rows(text: str, file: str, at: str) -> list[Row]:
    return _table(text) if file.endswith(".csv") else _objects(text, at)


def _table(text: str) -> list[Row]:
    head, *rows = table_rows(text) or [[]]
    columns = [column.lower() for column in head]
    return [
        {**dict(zip(columns, row, strict=False)), **({None: row[len(head) :]} if len(row) > len(head) else {})} for row in rows
    ]


def _objects(text: str, at: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut at separators inside a text
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise DataError(f"{at}: line {number} is no object", do=f"write one object a line; {GO_ON}")
        rows.append(row)
    return rows


def _check(rows: Iterable[Row], is_bad: Callable[[Row], bool], what: str, at: str, *, allowed: str, do: str) -> None:
    rows = list(rows)
    bad = [number for number, row in enumerate(rows) if is_bad(row)]
    if bad:
        name = rows[bad[0]].get("file_name") or f"row {bad[0] + 1}"
        raise DataError(
            f"{at}: {len(bad):,} of {len(rows):,} rows have {what}, first {shown(str(name))}",
            allowed=allowed,
            do=f"mend the rows; {do}",
        )


def _is_empty(given: Any) -> bool:
    return given is None or given == ""


def _label(given: Any, at: str) -> str:
    label = label_of(given)
    if label is None:
        raise DataError(f"{at} has the label {_short(given)}", allowed=ALLOWED, do=f"give one label a picture; {GO_ON}")
    return label


def _short(given: Any) -> str:
    text = repr(given)
    return shown(text if len(text) <= 60 else f"{text[:60]}...")
