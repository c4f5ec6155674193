"""A file left alone that speaks of the pictures of a set without classes may be its labels, and ends the preparation."""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import DataError

from .conftest import Prepared, blocks, encoded, lay
from .test_label_files import NAMES, PICTURES, kind, pictures, source_of, table
from .test_labels import tar_of

Make = Callable[..., Prepared]
Files = dict[str, bytes]
STEMS = [name[:-4] for name in NAMES]
KINDS = [kind(at) for at in range(40)]
PAIRS = list(zip(NAMES, KINDS, strict=True))
BY_CLASS = {each: [name for name, of in PAIRS if of == each] for each in ("cat", "dog")}
INATURALIST = {
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    "images": [{"id": at, "file_name": name} for at, name in enumerate(NAMES)],
    "annotations": [{"id": at, "image_id": at, "category_id": at % 2} for at in range(40)],
}


def rows(head: str, *columns: object, by: str = ",") -> bytes:
    return "\n".join([*([head] if head else []), *(by.join(map(str, row)) for row in zip(*columns, strict=True))]).encode()  # type: ignore[call-overload]


def as_json(document: object) -> bytes:
    return json.dumps(document).encode()


def each(suffix: str, data: Callable[[int], bytes]) -> Files:
    return {f"{stem}.{suffix}": data(at) for at, stem in enumerate(STEMS)}


BITS = [at % 2 for at in range(40)]
OF_SET: dict[str, Files] = {
    "labels.npz": {"labels.npz": b"PK\3\4\0"},
    "labels.pickle": {"labels.pickle": pickle.dumps(dict(PAIRS))},
    "train_targets.pt": {"train_targets.pt": b"PK\3\4\0"},
    "labels.h5": {"labels.h5": b"\x89HDF\r\n\x1a\n"},
    "labels.xls": {"labels.xls": b"\xd0\xcf\x11\xe0"},
    "labels.ods": {"labels.ods": b"PK"},
    "labels.xml": {"labels.xml": b"<labels/>"},
    "idx": {"train-labels-idx1-ubyte": bytes([0, 0, 8, 1, 0, 0, 0, 40, *BITS])},
    "labels.yaml": {"labels.yaml": rows("", NAMES, KINDS, by=": ")},
    "another yaml": {"data.yml": rows("", STEMS, KINDS, by=": ")},
    "labels.csv.gz": {"labels.csv.gz": gzip.compress(table(NAMES))},
    "train.csv.gz": {"train.csv.gz": gzip.compress(table(NAMES, head="image,breed"))},
    "stems and numbers": {"labels.txt": rows("", STEMS, BITS, by=" ")},
    "a line a picture": {"labels.txt": "\n".join(KINDS).encode()},
    "no suffix": {"labels": rows("", NAMES, KINDS, by=" ")},
    "image,breed": {"train.csv": table(NAMES, head="image,breed")},
    "id,breed of stems": {"train.csv": table(STEMS, head="id,breed")},
    "image_id,dx": {"ham.csv": rows("lesion_id,image_id,dx,age", STEMS, STEMS, KINDS, BITS)},
    "Image,Id": {"train.csv": table(NAMES, head="Image,Id")},
    "filename,digit": {"train.tsv": rows("filename\tdigit", NAMES, BITS, by="\t")},
    "one of several columns": {"train.csv": rows("image,healthy,rust", STEMS, BITS, BITS[1:] + BITS[:1])},
    "attributes": {"attr.txt": rows("40\nSmiling Young", NAMES, BITS, BITS[::-1], by=" ")},
    "metadata by another word": {"metadata.csv": table(NAMES, head="file_name,species")},
    "two words": {"train.csv": rows("", NAMES, [f"{each} breed" for each in KINDS])},
    "longer paths": {"train.csv": table([f"data\\all\\{name}" for name in NAMES], head="image_path;kind".replace(";", ","))},
    "json of stems": {"set.json": as_json(dict(zip(STEMS, KINDS, strict=True)))},
    "json of lists": {"set.json": as_json({name: [of] for name, of in PAIRS})},
    "json by class": {"set.json": as_json(BY_CLASS)},
    "json in order": {"labels.json": as_json(BITS)},
    "json of images": {"set.json": as_json({"images": [{"file_name": name, "kind": of} for name, of in PAIRS]})},
    "iNaturalist": {"annotations.json": as_json(INATURALIST)},
    "lines of json": {"set.jsonl": b"\n".join(as_json({"image": name, "answer": of}) for name, of in PAIRS)},
}
OF_EACH: dict[str, Files] = {
    "txt of digits": each("txt", lambda at: b"%d\n" % (at % 2)),
    "txt of words": each("txt", lambda at: KINDS[at].encode()),
    "y": each("y", lambda at: b"%d" % (at % 2)),
    "index": each("index", lambda at: b"%d" % (at % 2)),
    "another key": each("json", lambda at: as_json({"species": KINDS[at], "width": 16})),
    "a nested key": each("json", lambda at: as_json({"annotation": {"label": at % 2}})),
}


@pytest.mark.parametrize("form", OF_SET | OF_EACH)
def test_labels_of_any_form_are_refused(form: str, made: Make, tmp_path: Path) -> None:
    source = source_of("folder", pictures() | (OF_SET | OF_EACH)[form], tmp_path)
    with pytest.raises(DataError, match=r"hold.* labels .*--classes none") as caught:
        made(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("door", ["zip", "tar"])
@pytest.mark.parametrize("form", ["idx", "labels.npz", "no suffix", "image,breed", "json by class", *OF_EACH])
def test_so_are_those_of_an_archive(form: str, door: str, made: Make, tmp_path: Path) -> None:
    files = dict(sorted((pictures() | (OF_SET | OF_EACH)[form]).items()))
    source = tar_of(tmp_path / "x.tar", list(files.items())) if door == "tar" else source_of("zip", files, tmp_path)
    with pytest.raises(DataError, match=r"hold.* labels .*--classes none"):
        made(source)
    assert sum(made(source, classes="none").left_alone.values()) == len(files) - 40


@pytest.mark.parametrize("form", ["image,breed", "labels.pickle"])
def test_so_are_those_beside_shards(form: str, made: Make, tmp_path: Path) -> None:
    source = lay(tmp_path / "shards", OF_SET[form])
    tar_of(source / "a.tar", list(pictures().items()))
    with pytest.raises(DataError, match="seems to hold labels"):
        made(source)


WIDTHS = [(256, 512)[at % 2] for at in range(40)]
CAPTIONS = [f"a {of} looks at {at} other animals" for at, of in enumerate(KINDS)]
COCO = INATURALIST | {
    "annotations": [{"id": at, "image_id": at, "category_id": at % 2, "bbox": [0, 0, 9, 9]} for at in range(40)]
}
SAID = INATURALIST | {"annotations": [{"id": at, "image_id": at // 2, "caption": f"number {at}"} for at in range(80)]}
HONEST: dict[str, Files] = {
    "a readme": {
        "README.md": b"# Set\n000.png is a cat\n001.png is a dog\n",
        "README": b"See labels: none.\n",
        "LICENSE": b"MIT\n\nFree.",
    },
    "addresses": {"urls.txt": "\n".join(f"https://example.org/{name}" for name in NAMES).encode()},
    "a table of addresses": {"urls.csv": rows("image,url", NAMES, [f"https://example.org/{name}" for name in NAMES])},
    "checksums": {"SHA256SUMS": rows("", [f"{at:064x}" for at in range(40)], NAMES, by="  ")},
    "a list of names": {"all.txt": "\n".join(NAMES).encode()},
    "sizes": {"sizes.csv": rows("file,width,height", NAMES, WIDTHS, WIDTHS)},
    "what a camera wrote": {
        "exif.csv": rows("SourceFile,Make,Model,ISO", NAMES, ["Canon", "Nikon"] * 20, KINDS, [100, 200] * 20)
    },
    "the same as json": {"exif.json": as_json([{"SourceFile": name, "Make": of, "ISO": 100} for name, of in PAIRS])},
    "captions": {"captions.csv": rows("image,caption", NAMES, CAPTIONS)},
    "captions by spaces": {"captions.txt": rows("", NAMES, CAPTIONS, by=" ")},
    "two captions each": {"captions.csv": rows("id,image,caption", [*range(100, 140)] * 2, NAMES * 2, CAPTIONS + CAPTIONS[::-1])},
    "captions beside": each("txt", lambda at: CAPTIONS[at].encode()),
    "captions of coco": {"captions.json": as_json(SAID)},
    "boxes of coco": {"boxes.json": as_json(COCO)},
    "boxes beside": each("txt", lambda at: b"%d 0.%d 0.5 0.1 0.1" % (at % 2, at + 1)),
    "what a download wrote": each(
        "json", lambda at: as_json({"key": f"{at:09}", "status": ("ok", "late")[at % 2], "width": WIDTHS[at]})
    ),
    "names of classes": {"labels.txt": b"cat\ndog\n", "classes.txt": b"cat\ndog\n"},
    "ratings": {"quality.csv": rows("image,sharpness", NAMES, [f"{at % 7}.5" for at in range(40)])},
    "a few": {"notes.csv": table(NAMES[:8], head="image,remark")},
    "a setting": {"config.yaml": b"side: 32\nname: set\n", "settings.json": b'{"side": 32}'},
    "a program": {"labels.py": b"LABELS = ['cat', 'dog']\n"},
}


@pytest.mark.parametrize("form", HONEST)
def test_sets_without_labels_are_prepared(form: str, made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", pictures() | HONEST[form]))
    assert found.manifest.classes == ()
    assert sum(found.left_alone.values()) == (0 if form == "captions beside" else len(HONEST[form]))


def test_folders_are_classes_whatever_lists_them(made: Make, tmp_path: Path) -> None:
    names = [f"{of}/{name}" for name, of in PAIRS]
    found = made(lay(tmp_path / "src", pictures(names) | {"train.csv": table(names, head="image,breed")}))
    assert found.manifest.classes == ("cat", "dog")


@pytest.mark.parametrize("form", ["{}.{}.png", "{}_{:03}.png", "{} ({}).png"])
def test_classes_in_names_are_said(form: str, made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", {form.format(of, at): PICTURES[at] for at, of in enumerate(KINDS)}))
    assert "names of pictures begin with cat, dog: if these are classes, make each a folder" in found.words


@pytest.mark.parametrize("form", ["part_{}", "data_batch_{}", "fold{}", "{}00APPLE", "chunk-{}"])
@pytest.mark.parametrize("restart", [False, True])
def test_chunks_by_their_names_are_no_classes(form: str, restart: bool, made: Make, tmp_path: Path) -> None:
    files = {f"{form.format(1 + at // 10)}/{at % 10 if restart else at:03}.png": encoded(blocks(at)) for at in range(40)}
    found = made(lay(tmp_path / "src", files))
    assert found.manifest.classes == ()
    assert "are chunks" in found.words
    assert len(made(tmp_path / "src", classes="folders").manifest.classes) == 4


@pytest.mark.parametrize("names", [("class1", "class2"), ("part_a", "part_b"), ("part_1", "shard_2"), ("party", "batch")])
def test_other_names_stay_classes(names: tuple[str, str], made: Make, tmp_path: Path) -> None:
    files = {f"{names[at % 2]}/{at:03}.png": PICTURES[at] for at in range(40)}
    assert len(made(lay(tmp_path / "src", files)).manifest.classes) == 2


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_longer_than_what_is_looked_at_is_refused(suffix: str, made: Make, tmp_path: Path) -> None:
    given = PAIRS * 3000
    lines = b"\n".join(as_json({"image": name, "kind": of}) for name, of in given)
    data = lines if suffix == "jsonl" else table([name for name, _ in given], head="image,kind")
    assert len(data) > 1 << 20
    with pytest.raises(DataError, match="seems to hold labels"):
        made(lay(tmp_path / "src", pictures() | {f"all.{suffix}": data}))


def test_large_files_that_are_no_text_leave_room_for_the_labels(made: Make, tmp_path: Path) -> None:
    films = {f"film{at:03}.mov": bytes(1 << 20) for at in range(70)}
    with pytest.raises(DataError, match=r"train.csv: seems to hold labels"):
        made(lay(tmp_path / "src", pictures() | films | {"train.csv": table(NAMES, head="image,breed")}))


def test_what_cannot_be_read_and_is_no_label_is_left_alone(made: Make, tmp_path: Path) -> None:
    source = lay(tmp_path / "src", pictures() | {"README": b"x"})
    (source / "README").chmod(0)
    assert made(source).left_alone == {"no suffix": 1}
