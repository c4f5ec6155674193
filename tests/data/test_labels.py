"""Labels are kept or the preparation refuses: folders, chunks, label files, WebDataset samples, arrays."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError

from .conftest import Prepared, blocks, encoded, lay

Make = Callable[..., Prepared]
SERIES = {f"{at // 40:05}/img{at:08}.png": encoded(blocks(at)) for at in range(120)}  # as stylegan2-ada's dataset_tool lays them


def dataset_json(labels: object) -> dict[str, bytes]:
    return {"dataset.json": json.dumps({"labels": labels}).encode()}


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tar_of(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


# dataset.json and metadata

LABELLED = {
    "numbers": dataset_json([[name, at % 2] for at, name in enumerate(SERIES)]),
    "one of two": dataset_json([[name, [0, 1] if at % 2 else [1, 0]] for at, name in enumerate(SERIES)]),
    "mapping": dataset_json({name.replace("/", "\\"): at % 2 for at, name in enumerate(SERIES)}),
    "csv": {"metadata.csv": "\n".join(["file_name,label", *(f"{name},{at % 2}" for at, name in enumerate(SERIES))]).encode()},
    "jsonl": {
        "metadata.jsonl": "\n".join(
            json.dumps({"file_name": name, "text": "x", "label": at % 2}) for at, name in enumerate(SERIES)
        ).encode()
    },
}


@pytest.mark.parametrize("door", ["zip", "zip with a top folder", "folder"])
@pytest.mark.parametrize("form", LABELLED)
def test_a_label_file_says_the_classes(form: str, door: str, made: Make, tmp_path: Path) -> None:
    files = SERIES | LABELLED[form]
    if door == "folder":
        found = made(lay(tmp_path / "src", files))
    else:
        top = "set/" if "top" in door else ""
        found = made(packed(tmp_path / "x.zip", {top + name: data for name, data in files.items()}))
    assert (found.manifest.classes, found.manifest.class_counts, found.left_alone) == (("0", "1"), (60, 60), {})
    assert found.by_class["1"] == {blocks(at).tobytes() for at in range(1, 120, 2)}


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (
            [[name, 0] for name in list(SERIES)[:100]],
            "20 pictures have no class and others have one, first 00002/img00000100.png",
        ),
        ([[name, [0.5, 0.25]] for name in SERIES], r"00000/img00000000.png has the label \[0.5, 0.25\]; allowed: a whole number"),
        ([[name, True] for name in SERIES], "has the label True"),
        (["00000/img00000000.png"], "is no pair of file and label"),
    ],
)
def test_labels_that_would_be_lost_are_refused(labels: object, text: str, made: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        made(packed(tmp_path / "x.zip", SERIES | dataset_json(labels)))


def test_labels_without_a_picture_are_counted(made: Make, tmp_path: Path) -> None:
    labels = [[name, at % 2] for at, name in enumerate([*SERIES, "00009/gone.png"])]
    found = made(packed(tmp_path / "x.zip", SERIES | dataset_json(labels)))
    assert found.left_alone == {"labels without a picture in dataset.json": 1}


def test_another_label_file_is_named(made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", SERIES | {"boxes.xml": b"<a/>", "dataset.json": b'{"name": "x"}'}))
    assert found.left_alone == {".json": 1, ".xml": 1}
    assert "labels may stand in the .json, .xml left alone" in found.words


# Chunks


def chunked(form: str, per: int = 40) -> dict[str, bytes]:
    return {form.format(at // per, at): encoded(blocks(at)) for at in range(120)}


CHUNKS = {
    "stylegan without labels": SERIES,
    "labels: null": SERIES | dataset_json(None),
    "img2dataset": chunked("{0:05}/{1:09}.png"),
    "ffhq": {f"{at // 40 * 1000:05}/{at // 40 * 1000 + at:05}.png": encoded(blocks(at)) for at in range(120)},
    "parts": chunked("part-{0:03}/{1:04}.png"),
}
CLASSES = {
    "traffic signs": {f"{at % 3:05}/{at % 3:05}_{at // 3:05}.png": encoded(blocks(at)) for at in range(120)},
    "digits": chunked("{0}/{1:04}.png"),
    "words": chunked("class{0}/{1:04}.png"),
    "no numbers": {f"{at % 3:05}/{chr(97 + at // 3 % 26)}{chr(97 + at // 78)}.png": encoded(blocks(at)) for at in range(120)},
}


@pytest.mark.parametrize("form", CHUNKS)
def test_chunks_of_a_series_are_no_classes(form: str, made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", CHUNKS[form]))
    assert (found.manifest.classes, found.manifest.count) == ((), 120)
    if "null" not in form:
        assert "are chunks of one numbered series, not classes (--classes folders takes them as classes)" in found.words
        assert len(made(tmp_path / "src", classes="folders").manifest.classes) == 3


@pytest.mark.parametrize("form", CLASSES)
def test_numbered_classes_stay_classes(form: str, made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", CLASSES[form]))
    assert (len(found.manifest.classes), found.manifest.count) == (3, 120)
    assert made(tmp_path / "src", classes="none").manifest.classes == ()
    assert "no classes, as asked: the folders are not used" in made(tmp_path / "src", classes="none").words


def test_pictures_above_and_in_folders_need_a_word(made: Make, tmp_path: Path) -> None:
    source = lay(tmp_path / "src", CLASSES["words"] | {"top.png": encoded(blocks(999))})
    with pytest.raises(DataError, match=r"both in the top folder and in folders below it; .* --classes none"):
        made(source)
    assert made(source, classes="none").manifest.count == 121


def test_class_names_that_look_alike_are_named(made: Make, tmp_path: Path) -> None:
    files = {f"{('Cat', 'cat', 'dog')[at % 3]}/{at}.png": encoded(blocks(at)) for at in range(60)}
    assert "class names look alike: Cat, cat" in made(lay(tmp_path / "src", files)).words


# WebDataset: one picture a sample


def sample(at: int, *extras: tuple[str, bytes], picture: str = "jpg") -> list[tuple[str, bytes]]:
    return [
        (f"{at:05}.{picture}", encoded(blocks(at), "JPEG" if picture == "jpg" else "PNG")),
        *((f"{at:05}.{suffix}", data) for suffix, data in extras),
    ]


def mask(at: int) -> bytes:
    return encoded(blocks(at + 900, channels=1))


SAMPLES = {
    "mask and json": lambda at: sample(at, ("mask.png", mask(at)), ("json", b'{"caption": "x"}')),
    "mask before": lambda at: [(f"{at:05}.mask.png", mask(at)), *sample(at)],
    "mask and depth": lambda at: sample(at, ("depth.png", mask(at)), ("mask.png", mask(at + 5000)), ("txt", b"x")),
    "labelled": lambda at: [(f"{at:05}.cls", b"%d" % (at % 3)), (f"{at:05}.mask.png", mask(at)), *sample(at)],
}


@pytest.mark.parametrize("form", SAMPLES)
def test_a_sample_gives_one_picture(form: str, made: Make, tmp_path: Path) -> None:
    found = made(tar_of(tmp_path / "x.tar", [member for at in range(60) for member in SAMPLES[form](at)]))
    left = {
        "mask and json": {".json": 60, "second pictures of a sample (.mask.png)": 60},
        "mask before": {"second pictures of a sample (.mask.png)": 60},
        "mask and depth": {
            "second pictures of a sample (.depth.png)": 60,
            "second pictures of a sample (.mask.png)": 60,
        },
        "labelled": {"second pictures of a sample (.mask.png)": 60},
    }
    assert (found.manifest.count, found.manifest.shape[2], found.left_alone) == (60, 3, left[form])
    assert found.manifest.classes == (("0", "1", "2") if form == "labelled" else ())
    assert found.manifest.captions == (1 if form == "mask and depth" else 0)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (
            lambda at: [(f"{at:05}.image.png", mask(at)), (f"{at:05}.mask.png", mask(at))],
            r"\(.image.png and .mask.png\) and none is NAME.jpg",
        ),
        (lambda at: [*sample(at), *sample(at, ("cls", b"1"), picture="png")], "sample 00000 has 2 pictures of equal right"),
        (lambda at: sample(at, ("cls", b" ")), "the label 00000.cls is empty"),
        (lambda at: sample(at, ("cls", b"x" * 300)), "the label 00000.cls is longer than 256 bytes"),
    ],
    ids=["no main one", "two", "empty label", "long label"],
)
def test_samples_that_say_two_things_are_refused(
    one: Callable[[int], list[tuple[str, bytes]]], text: str, made: Make, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=text):
        made(tar_of(tmp_path / "x.tar", [member for at in range(60) for member in one(at)]))


def test_names_with_dots_are_pictures_of_their_own(made: Make, tmp_path: Path) -> None:
    members = [(f"IMG.2020.{at:03}.png", encoded(blocks(at))) for at in range(60)]
    assert made(tar_of(tmp_path / "x.tar", members)).manifest.count == 60


def test_labels_in_json_are_kept(made: Make, tmp_path: Path) -> None:
    members = [member for at in range(60) for member in sample(at, ("json", json.dumps({"label": at % 3}).encode()))]
    found = made(tar_of(tmp_path / "x.tar", members))
    assert (found.manifest.classes, found.manifest.class_counts, found.left_alone) == (("0", "1", "2"), (20, 20, 20), {})


def with_label(suffix: str, data: Callable[[int], bytes]) -> Callable[[int], list[tuple[str, bytes]]]:
    return lambda at: sample(at, (suffix, data(at % 3)))


def in_json(label: object) -> bytes:
    return json.dumps({"label": label}).encode()


READ = {
    "an inner dot": with_label("target.cls", lambda of: b"%d" % of),
    "capital letters": with_label("CLS", lambda of: b"%d" % of),
    "another suffix": with_label("label", lambda of: b"%d" % of),
    "a float in json": with_label("json", lambda of: in_json(float(of))),
    "one of three in json": with_label("json", lambda of: in_json([int(at == of) for at in range(3)])),
    "fine and coarse": lambda at: sample(at, ("cls", b"%d" % (at % 3)), ("coarse.cls", b"0")),
    "and json without": lambda at: sample(at, ("cls", b"%d" % (at % 3)), ("json", b'{"category": 7}'), ("label.npy", b"x")),
}


@pytest.mark.parametrize("form", READ)
def test_the_label_of_a_sample_is_kept(form: str, made: Make, tmp_path: Path) -> None:
    source = tar_of(tmp_path / "x.tar", [member for at in range(60) for member in READ[form](at)])
    found = made(source)
    left = {"fine and coarse": {".coarse.cls": 60}, "and json without": {".json": 60, ".npy": 60}}
    assert (found.manifest.class_counts, found.left_alone) == ((20, 20, 20), left.get(form, {}))


UNREAD = {
    "half": (with_label("json", lambda _: in_json(0.5)), "00000.json has the label 0.5"),
    "true": (with_label("json", lambda _: in_json(True)), "00000.json has the label True"),
    "two labels": (with_label("json", lambda _: in_json(["cat", "dog"])), "00000.json has the label"),
    "another key": (with_label("json", lambda _: b'{"category": 3}'), r"00000.json: holds labels \(category\)"),
    "cut json": (with_label("json", lambda _: b'{"label": 3, '), "00000.json: a label in it cannot be read"),
    "array": (with_label("cls.npy", lambda _: b"x"), "00000.cls.npy: holds labels"),
    "text": (with_label("label.txt", lambda _: b"cat"), "00000.label.txt: holds labels"),
    "second label": (with_label("cls2", lambda _: b"1"), "00000.cls2: holds labels"),
    "two of equal right": (lambda at: sample(at, ("a.cls", b"1"), ("b.cls", b"2")), "has 2 labels of equal right"),
    "empty": (with_label("cls", lambda _: b""), "the label 00000.cls is empty"),
}


@pytest.mark.parametrize("form", UNREAD)
def test_a_label_of_a_sample_that_cannot_be_read_is_refused(form: str, made: Make, tmp_path: Path) -> None:
    one, text = UNREAD[form]
    source = tar_of(tmp_path / "x.tar", [member for at in range(60) for member in one(at)])
    with pytest.raises(DataError, match=f"{text}.*--classes none"):
        made(source)
    if form in ("half", "empty", "second label"):
        found = made(source, classes="none")
        assert (found.manifest.classes, sum(found.left_alone.values())) == ((), 60)


# WebDataset: members in a row

PICTURES = [(f"{at:05}.jpg", encoded(blocks(at), "JPEG")) for at in range(60)]
LABELS = [(f"{at:05}.cls", b"%d" % (at % 3)) for at in range(60)]
APART = {
    "labels first": lambda to: tar_of(to / "x.tar", LABELS + PICTURES),
    "pictures first": lambda to: tar_of(to / "x.tar", PICTURES + LABELS),
    "two tars": lambda to: tar_of(to / "s" / "a.tar", LABELS).parent if tar_of(to / "s" / "b.tar", PICTURES) else to,
    "one astray": lambda to: tar_of(
        to / "x.tar", [each for pair in zip(PICTURES, LABELS, strict=True) for each in pair][1:] + PICTURES[:1]
    ),
    "json": lambda to: tar_of(
        to / "x.tar", [(name.replace("cls", "json"), b'{"label": %b}' % data) for name, data in LABELS] + PICTURES
    ),
}


@pytest.mark.parametrize("form", APART)
def test_members_of_a_sample_that_stand_apart_are_refused(form: str, made: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label of sample 00000 does not stand beside its picture.*tar --sort=name") as caught:
        made(APART[form](tmp_path))
    assert "\n" not in str(caught.value)


def test_a_label_of_no_picture_is_counted(made: Make, tmp_path: Path) -> None:
    pairs = [each for pair in zip(PICTURES, LABELS, strict=True) for each in pair]
    found = made(tar_of(tmp_path / "x.tar", [*pairs, ("99999.cls", b"1")]))
    assert (found.manifest.class_counts, found.left_alone) == ((20, 20, 20), {".cls without a picture": 1})


@pytest.mark.parametrize("door", ["folder", "zip"])
def test_labels_of_samples_outside_a_tar_are_refused(door: str, made: Make, tmp_path: Path) -> None:
    files = dict(PICTURES) | dict(LABELS)
    source = lay(tmp_path / "src", files) if door == "folder" else packed(tmp_path / "x.zip", files)
    with pytest.raises(DataError, match=r"60 labels \(.cls\) lie beside the pictures.*tar --sort=name"):
        made(source)
    assert made(source, classes="none").left_alone == {".cls": 60}


@pytest.mark.parametrize("form", LABELLED)
def test_a_label_file_in_a_tar_is_refused(form: str, made: Make, tmp_path: Path) -> None:
    source = tar_of(tmp_path / "x.tar", list((SERIES | LABELLED[form]).items()))
    with pytest.raises(DataError, match="are not read from a tar; unpack it, or pack it as a zip"):
        made(source)
    assert made(source, classes="none").manifest.count == 120
    assert made(tar_of(tmp_path / "y.tar", list((SERIES | dataset_json(None)).items()))).manifest.classes == ()


# Arrays


@pytest.mark.parametrize("name", ["y", "label", "targets"])
def test_an_array_that_may_be_the_labels_is_refused(name: str, made: Make, tmp_path: Path) -> None:
    images = np.stack([blocks(at) for at in range(60)])
    np.savez(tmp_path / "x.npz", images=images, **{name: np.arange(60) % 3})
    with pytest.raises(DataError, match=f"array '{name}' may be the labels of its 60 images"):
        made(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(60) % 3, other=np.zeros(3))
    found = made(tmp_path / "x.npz")
    assert (found.manifest.class_counts, found.left_alone) == ((20, 20, 20), {"array other": 1})


# Rare classes


def rare(counts: dict[str, int]) -> dict[str, bytes]:
    names = [name for name, count in counts.items() for _ in range(count)]
    return {f"{name}/{at:04}.png": encoded(blocks(at)) for at, name in enumerate(names)}


@pytest.mark.parametrize(
    ("counts", "lacking"),
    [
        ({"a": 200, "b": 200, **dict.fromkeys("cdefgh", 1)}, set("cdefgh")),
        ({"a": 100, "b": 3}, {"b"}),
        ({"a": 64, "b": 64, "c": 64}, set()),
        ({"many": 150} | {f"id{at:03}": 1 for at in range(30)}, {f"id{at:03}" for at in range(30)}),
    ],
)
def test_classes_are_told_with_their_counts_and_what_they_lack(
    counts: dict[str, int], lacking: set[str], made: Make, tmp_path: Path
) -> None:
    found = made(lay(tmp_path / "src", rare(counts)))
    by_split = found.report.class_counts
    assert {name: sum(of[at] for of in by_split.values()) for at, name in enumerate(found.manifest.classes)} == counts
    at = found.manifest.classes.index(next(iter(counts)))
    assert (
        f"{next(iter(counts))} {'/'.join(str(by_split[split][at]) for split in ('train', 'validation', 'test'))}" in found.words
    )
    none_somewhere = {name for at, name in enumerate(found.manifest.classes) if not all(of[at] for of in by_split.values())}
    assert none_somewhere == lacking
    assert ("classes without an item in a split" in found.words) == bool(lacking)
