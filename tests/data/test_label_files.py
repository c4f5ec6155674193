"""A file that holds the labels of a set is read whole and matched by name, or the preparation refuses and says how to go on."""

import json
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from components.core.errors import DataError

from .conftest import Prepared, blocks, encoded, lay
from .test_labels import dataset_json, packed, tar_of

Make = Callable[..., Prepared]
Files = dict[str, bytes]
NAMES = [f"{at:03}.png" for at in range(40)]


PICTURES = [encoded(blocks(at)) for at in range(40)]


def pictures(names: Iterable[str] = NAMES) -> Files:
    return dict(zip(names, PICTURES, strict=True))


def kind(at: int) -> str:
    return ("cat", "dog")[at % 2]


def table(names: Iterable[str], *, by: str = ",", head: str = "file_name,label") -> bytes:
    rows = [head.replace(",", by), *(f"{name}{by}{kind(at)}" for at, name in enumerate(names))]
    return "\n".join(rows).encode()


def lines_of(labels: list[object]) -> bytes:
    rows = ({"file_name": name, "text": "a\u2028b", "label": label} for name, label in zip(NAMES, labels, strict=True))
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def source_of(door: str, files: Files, to: Path) -> Path:
    return lay(to / "src", files) if door == "folder" else packed(to / "x.zip", files)


ACCENTS = [f"é{name}" for name in NAMES]
BELOW = [f"{('train', 'test')[at % 2]}/{name}" for at, name in enumerate(NAMES)]
KEPT: dict[str, Files] = {
    "accents written apart": pictures(unicodedata.normalize("NFD", name) for name in ACCENTS)
    | {"metadata.csv": table(unicodedata.normalize("NFC", name) for name in ACCENTS)},
    "backslashes": pictures() | {"metadata.csv": table(f".\\{name}" for name in NAMES)},
    "semicolons": pictures() | {"metadata.csv": table(NAMES, by=";")},
    "tabs": pictures() | {"metadata.csv": table(NAMES, by="\t")},
    "spaces": pictures() | {"metadata.csv": table(NAMES, by=" , ", head="File_Name,Label")},
    "one folder down": pictures(f"set/0/{name}" for name in NAMES)
    | {"set/dataset.json": dataset_json([[f"0/{name}", kind(at)] for at, name in enumerate(NAMES)])["dataset.json"]},
    "a file a split": pictures(BELOW)
    | {
        "train/metadata.csv": b"file_name,label\n" + b"\n".join(f"{name},cat".encode() for name in NAMES[::2]),
        "test/metadata.csv": b"file_name,label\n" + b"\n".join(f"{name},dog".encode() for name in NAMES[1::2]),
    },
    "a file in one folder": pictures(f"train/{name}" for name in NAMES) | {"train/metadata.csv": table(NAMES)},
    "two bytes a letter": pictures() | {"metadata.csv": table(NAMES).decode().encode("utf-16")},
    "whole numbers as floats": pictures() | {"metadata.jsonl": lines_of([float(at % 2) for at in range(40)])},
}


@pytest.mark.parametrize("door", ["folder", "zip"])
@pytest.mark.parametrize("form", KEPT)
def test_labels_are_kept(form: str, door: str, made: Make, tmp_path: Path) -> None:
    found = made(source_of(door, KEPT[form], tmp_path))
    first, second = ("0", "1") if "floats" in form else ("cat", "dog")
    assert found.by_class == {first: shown_in(range(0, 40, 2)), second: shown_in(range(1, 40, 2))}
    assert found.left_alone == {}


def shown_in(numbers: Iterable[int]) -> set[bytes]:
    return {blocks(at).tobytes() for at in numbers}


ONE_NULL: list[object] = [None if at == 31 else at % 2 for at in range(40)]
BATCHES = [f"batch_{'ab'[at // 20]}/{name}" for at, name in enumerate(NAMES)]
REFUSED: dict[str, tuple[Files, str]] = {
    "one null": (
        pictures() | {"metadata.jsonl": lines_of(ONE_NULL)},
        "metadata.jsonl: 1 of 40 rows have no label, first 031.png",
    ),
    "one without, in folders": (
        pictures(BATCHES) | {"metadata.csv": table(BATCHES).replace(b"031.png,dog", b"031.png,")},
        "metadata.csv: 1 of 40 rows have no label, first batch_b/031.png",
    ),
    "no file name": (pictures() | {"metadata.csv": table(NAMES).replace(b"031.png", b"")}, "1 of 40 rows have no file_name"),
    "a line that is no object": (
        pictures() | {"metadata.jsonl": lines_of(ONE_NULL).replace(b"null", b"1") + b"\n[1]"},
        "line 41 is no object",
    ),
    "a comma in a label": (
        pictures() | {"metadata.csv": table(NAMES).replace(b"031.png,dog", b"031.png,dog, old")},
        "1 of 40 rows have more cells than the first row, first 031.png",
    ),
    "two labels": (
        pictures() | {"metadata.csv": table(NAMES) + b"\n./000.png,dog"},
        "000.png has the labels 'cat' and 'dog'",
    ),
    "two files": (
        pictures() | {"metadata.csv": table(NAMES), "metadata.jsonl": lines_of([at % 2 for at in range(40)])},
        "000.png has the labels 'cat' and '0'",
    ),
    "no name matches": (
        pictures() | {"metadata.csv": table(f"{name}.jpeg" for name in NAMES)},
        "metadata.csv: none of its 40 labels is of a picture here, first 000.png.jpeg",
    ),
    "names from the top": (
        pictures(BELOW) | {"train/metadata.csv": table(BELOW)},
        "train/metadata.csv: none of its 40 labels is of a picture here, first train/train/000.png",
    ),
    "another column": (
        pictures() | {"metadata.csv": table(NAMES, head="file_name,category")},
        r"metadata.csv: holds labels \(category\) that cannot be read; allowed: .* with the columns file_name and label",
    ),
    "another name": (
        pictures() | {"labels.csv": table(NAMES)},
        r"labels.csv: holds labels \(label\) that cannot be read; allowed: .*metadata.csv",
    ),
    "a table of tabs": (
        pictures() | {"sub/train.TSV": table(NAMES, by="\t", head="image,class_id")},
        r"holds labels \(class_id\)",
    ),
    "no head": (pictures() | {"labels.csv": table(NAMES, head="000.png,cat")}, "labels.csv: holds labels"),
    "a list of names": (
        pictures() | {"train.txt": b"\n".join(b"%b 1" % name.encode() for name in NAMES)},
        "train.txt: holds labels",
    ),
    "a mapping": (
        pictures() | {"labels.json": json.dumps(dict.fromkeys(NAMES, 1)).encode()},
        "labels.json: holds labels",
    ),
    "pairs": (pictures() | {"dataset.json": json.dumps([[name, 1] for name in NAMES]).encode()}, "dataset.json: holds labels"),
    "an array": (pictures() | {"labels.npy": b"x"}, "labels.npy: holds labels"),
    "another table": (pictures() | {"metadata.parquet": b"x"}, "metadata.parquet: holds labels"),
    "beside each": (
        pictures() | {name.replace("png", "json"): b'{"label": 1}' for name in NAMES},
        "000.json: holds labels",
    ),
    "an old alphabet": (
        pictures() | {"metadata.csv": table(NAMES) + b"\ncaf\xe9,cat"},
        "metadata.csv: cannot be read.* in UTF-8",
    ),
    "a thousand brackets": (pictures() | {"dataset.json": b'{"labels": ' + b"[" * 100_000}, "dataset.json: cannot be read"),
}


@pytest.mark.parametrize("door", ["folder", "zip"])
@pytest.mark.parametrize("form", REFUSED)
def test_labels_that_cannot_be_read_or_matched_are_refused(form: str, door: str, made: Make, tmp_path: Path) -> None:
    files, text = REFUSED[form]
    source = source_of(door, files, tmp_path)
    with pytest.raises(DataError, match=text) as caught:
        made(source)
    assert "\n" not in str(caught.value)
    assert "--classes none" in str(caught.value)


@pytest.mark.parametrize("door", ["folder", "zip"])
@pytest.mark.parametrize("form", ["one null", "no name matches", "a mapping", "beside each", "a thousand brackets"])
def test_none_goes_on_without_them(form: str, door: str, made: Make, tmp_path: Path) -> None:
    files, _ = REFUSED[form]
    found = made(source_of(door, files, tmp_path), classes="none", captions="none")
    assert (found.manifest.count, found.manifest.classes) == (40, ())
    assert sum(found.left_alone.values()) == len(files) - 40


@pytest.mark.parametrize("form", [form for form, (files, _) in REFUSED.items() if len(files) < 80])
def test_a_tar_refuses_them_too(form: str, made: Make, tmp_path: Path) -> None:
    files, _ = REFUSED[form]
    source = tar_of(tmp_path / "x.tar", list(files.items()))
    with pytest.raises(DataError, match=r"--classes none"):
        made(source)
    if form == "one null":
        assert made(source, classes="none").manifest.count == 40


def test_a_label_file_beside_shards_is_refused(made: Make, tmp_path: Path) -> None:
    source = lay(tmp_path / "shards", {"metadata.csv": table(NAMES)})
    tar_of(source / "a.tar", list(pictures().items()))
    with pytest.raises(DataError, match=r"metadata.csv.* --classes none"):
        made(source)
    assert made(source, classes="none").left_alone == {".csv": 1}


NO_LABELS: dict[str, Files] = {
    "captions": {"metadata.csv": table(NAMES, head="file_name,text")},
    "all empty": {"metadata.jsonl": lines_of([None] * 40)},
    "boxes": {"metadata.jsonl": b'{"file_name": "000.png", "objects": {"categories": [1]}}'},
    "a readme": {"README.txt": b"000.png is the first\nlabel,class\n", "licence.json": b'{"name": "x"}'},
    "names of classes": {"classes.txt": b"cat\ndog\n"},
}


@pytest.mark.parametrize("form", NO_LABELS)
def test_what_holds_no_labels_is_left_alone_but_for_captions(form: str, made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", pictures() | NO_LABELS[form]))
    assert found.manifest.classes == ()
    assert sum(found.left_alone.values()) == (0 if form in ("captions", "all empty") else len(NO_LABELS[form]))


@pytest.mark.parametrize("door", ["folder", "zip"])
def test_folders_that_are_asked_for_win_over_a_label_file(door: str, made: Make, tmp_path: Path) -> None:
    source = source_of(door, pictures(BATCHES) | {"metadata.csv": table(BATCHES)}, tmp_path)
    assert made(source).manifest.classes == ("cat", "dog")
    assert made(source, classes="folders").manifest.classes == ("batch_a", "batch_b")
