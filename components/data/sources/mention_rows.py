"""Any text that may list pictures, as rows of cells: tables, lists, JSON, lines of JSON, plain YAML, and gz of them."""

import json
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from components.data.sources.label_files import DAMAGED, decoded, table_rows

BINARY = frozenset(
    (
        *(".npy", ".npz", ".parquet", ".arrow", ".feather", ".mat", ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".h5", ".hdf5"),
        *(".xls", ".xlsx", ".ods", ".db", ".sqlite", ".xml"),
    )
)
MOST = 1 << 20  # bytes taken out of a gz


@dataclass(frozen=True)
class Rows:
    """Rows of cells; `head` names the columns, and is empty where nothing does."""

    head: list[str]
    cells: list[list[str]]


def unpacked(path: PurePosixPath, data: bytes) -> tuple[PurePosixPath, bytes]:
    """Of a gz what is inside, up to MOST bytes, and its name; any other file as it is."""
    if data[:2] != b"\x1f\x8b":
        return path, data
    try:
        inner = zlib.decompressobj(wbits=31).decompress(data, MOST)
    except zlib.error:
        return path, data
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path), inner


def rows_of(path: PurePosixPath, data: bytes, is_named: Callable[[str], bool]) -> Rows | None:
    """None for what is no text, or no JSON by a name that says so. `is_named`: whether a cell names a picture."""
    if b"\0" in data[:4096] and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return None
    try:
        text = decoded(data, errors="replace")
        suffix = path.suffix.lower()
        if suffix == ".json":
            return _objects(_records(json.loads(text)))
        if suffix in (".jsonl", ".ndjson"):
            lines = [line for line in text.split("\n") if line.strip()]
            whole = lines[:-1] if len(data) >= MOST else lines  # the last is cut off
            return _objects(_records([json.loads(line) for line in whole]))
        if suffix in (".yaml", ".yml"):
            return Rows(
                [], [re.split(r"\s*:\s+", line.strip().lstrip("- "), maxsplit=1) for line in text.split("\n") if line.strip()]
            )
        return _table(table_rows(text), is_named)
    except DAMAGED:
        return None


def _table(rows: list[list[str]], is_named: Callable[[str], bool]) -> Rows:
    if all(len(row) == 1 for row in rows):
        rows = _split([row[0] for row in rows])
    if rows and not any(map(is_named, rows[0])):
        return Rows(rows[0], rows[1:])
    return Rows([], rows)


def _split(lines: list[str]) -> list[list[str]]:
    """At spaces: into a name and the rest, which may be a caption; into all columns where these are whole numbers."""
    words = [line.split() for line in lines]
    numbers = all(re.fullmatch(r"[-+]?\d+", cell) for row in words[2:] for cell in row[1:])
    return words if numbers else [line.split(maxsplit=1) for line in lines]


def _records(document: Any) -> Iterable[dict[str, Any]]:
    """The objects of a document, wherever in its first two levels they stand; a mapping is a row an entry."""
    if isinstance(document, list):
        for each in document:
            if isinstance(each, dict):
                yield each
            elif isinstance(each, list):
                yield dict(zip(map(str, range(len(each))), each, strict=True))
            else:
                yield {"": each}
    elif isinstance(document, dict):
        files = _files(document.get("images"))
        for key, value in document.items():
            if isinstance(value, dict):
                yield {"name": key} | value
                yield from _records(value)
            elif isinstance(value, list) and len(value) == 1:
                yield {"name": key, "": value[0]}
            elif isinstance(value, list) and all(isinstance(each, str) for each in value):
                yield from ({"name": each, "": key} for each in value)
            elif isinstance(value, list):
                yield from (_joined(each, files) for each in _records(value))
            else:
                yield {"name": key, "": value}


def _files(images: Any) -> dict[Any, Any]:
    """COCO's and iNaturalist's: the id of an image -> its file."""
    rows = images if isinstance(images, list) else []
    return {str(row["id"]): row["file_name"] for row in rows if isinstance(row, dict) and "id" in row and "file_name" in row}


def _joined(row: dict[str, Any], files: dict[Any, Any]) -> dict[str, Any]:
    """With the file in place of the id of an image; nothing of a box or an outline, which is no label of a picture."""
    if row.get("bbox") or row.get("segmentation"):
        return {}
    row = {key: value for key, value in row.items() if key != "id"} if files else row
    return row | {"image_id": files[str(row["image_id"])]} if str(row.get("image_id")) in files else row


def _objects(records: Iterable[dict[str, Any]]) -> Rows:
    flat = [dict(_flat(record)) for record in records]
    joined = [row | {"file_name": row.pop("image_id")} if "image_id" in row and "file_name" not in row else row for row in flat]
    head = list(dict.fromkeys(key for row in joined for key in row))[:256]
    return Rows(head, [[row.get(key, "") for key in head] for row in joined])


def _flat(record: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{below}", str(each)) for below, each in value.items() if isinstance(each, str | int | float))
        elif isinstance(value, str | int | float):
            yield key, str(value)
        elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | int):
            yield key, str(value[0])
