"""Files that hold the labels of a whole set: stylegan2-ada's dataset.json, Hugging Face's metadata.csv and metadata.jsonl.

dataset.json: {"labels": [["00000/img00000000.png", 6], ...]} or {"labels": null}
(https://github.com/NVlabs/stylegan2-ada-pytorch, dataset_tool.py). metadata: a row a picture with file_name and label
(https://huggingface.co/docs/datasets/image_dataset).
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from components.core.errors import DataError
from components.data.sources.left_alone import Tally

MAX_BYTES = 512 << 20
FILES = ("dataset.json", "metadata.csv", "metadata.jsonl")


@dataclass
class Labels:
    """Picture (its path from the label file) -> label. `file` is empty where the set has no such file; `names` is None where
    the file says that there are no labels."""

    file: str = ""
    names: Mapping[str, str] | None = field(default_factory=dict)
    used: int = 0

    def of(self, inside: PurePosixPath) -> str | None:
        """The label of a picture, None without one."""
        label = (self.names or {}).get(str(inside))
        self.used += label is not None
        return label

    @property
    def deny_folders(self) -> bool:
        """Whether the file says that there are no classes, whatever the folders are."""
        return self.names is None

    def count_unused(self, tally: Tally) -> None:
        """Count the labels that no picture took."""
        left = len(self.names or {}) - self.used
        if left > 0:
            tally[f"labels without a picture in {self.file}"] += left


def find_labels(read: Callable[[str], bytes | None], *, where: str) -> Labels:
    """The labels of a set; `read` gives a file's bytes by its name, None where it is not there. Raises DataError.

    A file of the name but another form is none: it stays left alone, by its suffix.
    """
    for file in FILES:
        data = read(file)
        if data is None:
            continue
        at = f"{where}: {file}"
        try:
            text = data.decode("utf-8-sig")
            found = _stylegan(text, at) if file == "dataset.json" else _rows(text, file, at)
        except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
            raise DataError(f"{at}: cannot be read: {error}", do="write it again, or remove it") from error
        if found is not None:
            return Labels(file, found or None)
    return Labels()


def _stylegan(text: str, at: str) -> dict[str, str] | None:
    document = json.loads(text)
    if not isinstance(document, dict) or "labels" not in document:
        return None
    pairs = document["labels"] or []
    pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
    labels = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError(f"{at}: {pair!r} is no pair of file and label", do="write it as stylegan2-ada's dataset_tool does")
        labels[str(PurePosixPath(str(pair[0]).replace("\\", "/")))] = _label(pair[1], f"{at}: {pair[0]}")
    return labels


def _rows(text: str, file: str, at: str) -> dict[str, str] | None:
    rows: list[dict[str, Any]]
    if file.endswith(".csv"):
        rows = list(csv.DictReader(io.StringIO(text)))
    else:
        rows = [row for line in text.splitlines() if line.strip() and isinstance(row := json.loads(line), dict)]
    if not rows or any("file_name" not in row or row.get("label") is None for row in rows):
        return None  # captions, boxes: not labels
    return {str(PurePosixPath(str(row["file_name"]))): _label(row["label"], f"{at}: {row['file_name']}") for row in rows}


def _label(given: Any, at: str) -> str:
    """A whole number or a name; a vector of one 1 and else 0 is the number of its place. Raises DataError for any other."""
    if isinstance(given, list) and given and sum(map(bool, given)) == 1 and 1 in given:
        return str(given.index(1))
    if isinstance(given, bool) or not isinstance(given, int | str) or given == "":
        raise DataError(f"{at} has the label {given!r}", allowed="a whole number or a name", do="give one label a picture")
    return str(given)
