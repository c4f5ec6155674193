"""Captions: where they come from, what is counted and refused, which split they fall into, and how a split gives them back."""

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from components.core.errors import DataError
from components.core.records import EmbeddingCondition, LocalDataset
from components.core.records.condition import items_asked
from components.data.embeddings import captions_digest, distinct_captions, embed
from components.data.joined import held_out
from components.data.prepare import prepare
from components.data.shards import check_sizes, open_split, verify
from components.data.sources.caption_rules import check_rule, cleaned
from components.data.splits import SPLITS

from .conftest import Prepared, lay, png

Make = Callable[..., Prepared]
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNT = 80


def digits(count: int = COUNT) -> tuple[list[bytes], list[str]]:
    """Real pictures and what is said of each, no two alike."""
    found = load_digits()
    said = [f"a handwritten {WORDS[label]}, number {at}" for at, label in enumerate(found.target[:count])]
    return [png(np.uint8(np.minimum(image * 16, 255))) for image in found.images[:count]], said


IMAGES, SAID = digits()
NAMES = [f"{at:03d}.png" for at in range(COUNT)]
PICTURES = dict(zip(NAMES, IMAGES, strict=True))


def jsonl(captions: list[object], *, key: str = "text", names: list[str] = NAMES) -> bytes:
    return "\n".join(json.dumps({"file_name": name, key: said}) for name, said in zip(names, captions, strict=True)).encode()


def csv(captions: list[str], *, names: list[str] = NAMES) -> bytes:
    return "\n".join(["file_name,caption", *(f'{name},"{said}"' for name, said in zip(names, captions, strict=True))]).encode()


def beside(captions: list[str]) -> dict[str, bytes]:
    return {
        name.replace(".png", ".txt"): said.encode("utf-8", "surrogateescape") for name, said in zip(NAMES, captions, strict=True)
    }


def source_of(door: str, files: dict[str, bytes], tmp_path: Path) -> Path:
    if door == "folder":
        return lay(tmp_path / "src", files)
    if door == "zip":
        with zipfile.ZipFile(tmp_path / "src.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return tmp_path / "src.zip"
    with tarfile.open(tmp_path / "src.tar", "w") as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return tmp_path / "src.tar"


def pairs(found: Prepared) -> dict[bytes, tuple[str, ...]]:
    """A picture's bytes -> what is said of it, over all splits."""
    given: dict[bytes, tuple[str, ...]] = {}
    for name in SPLITS:
        split = open_split(found.folder, name)
        assert split.captions is not None
        given |= {image.tobytes(): said for image, said in zip(split.take(np.arange(len(split))), split.captions, strict=True)}
    return given


def expected(captions: list[tuple[str, ...]]) -> dict[bytes, tuple[str, ...]]:
    found = load_digits().images[:COUNT]
    return {np.uint8(np.minimum(image * 16, 255)).tobytes(): said for image, said in zip(found, captions, strict=True)}


ONE = [(said,) for said in SAID]
TWO = [(said, f"a picture of {said}") for said in SAID]
FORMS: dict[str, tuple[dict[str, bytes], list[tuple[str, ...]], str]] = {
    "metadata.jsonl, text": ({"metadata.jsonl": jsonl(list(SAID))}, ONE, "metadata"),
    "metadata.jsonl, caption": ({"metadata.jsonl": jsonl(list(SAID), key="caption")}, ONE, "metadata"),
    "metadata.jsonl, captions": ({"metadata.jsonl": jsonl([list(each) for each in TWO], key="captions")}, TWO, "metadata"),
    "metadata.csv": ({"metadata.csv": csv(SAID)}, ONE, "metadata"),
    "two rows a picture": (
        {"metadata.csv": csv([*SAID, *(second for _, second in TWO)], names=[*NAMES, *NAMES])},
        TWO,
        "metadata",
    ),
    "texts beside": (beside(SAID), ONE, "sidecar"),
    "two lines beside": (beside(["\r\n".join(each) + "\n" for each in TWO]), TWO, "sidecar"),
}


@pytest.mark.parametrize("door", ["folder", "zip", "tar"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_captions_is_found(form: str, door: str, made: Make, tmp_path: Path) -> None:
    files, said, rule = FORMS[form]
    if door == "tar" and rule == "metadata":
        pytest.skip("a tar is a stream: metadata may come after the pictures")
    found = made(source_of(door, PICTURES | files, tmp_path))
    assert pairs(found) == expected(said)
    assert found.manifest.captions == len({each for of in said for each in of})
    assert found.report.captions is not None
    assert (found.report.captions.rule, found.report.captions.most) == (rule, len(said[0]))
    assert found.left_alone == {}, "a file that is read is not left alone"
    assert f"captions   {found.manifest.captions} distinct" in found.words
    assert f'"{found.report.captions.examples[0]}"' in found.words


def test_labels_and_captions_of_one_file(made: Make, tmp_path: Path) -> None:
    rows = ({"file_name": name, "text": said, "label": at % 2} for at, (name, said) in enumerate(zip(NAMES, SAID, strict=True)))
    found = made(lay(tmp_path / "src", PICTURES | {"metadata.jsonl": "\n".join(map(json.dumps, rows)).encode()}))
    assert found.manifest.classes == ("0", "1")
    assert pairs(found) == expected(ONE)


def test_a_folder_says_its_name_and_a_template_the_class(made: Make, tmp_path: Path) -> None:
    files = {f"{'a_cat' if at % 2 else 'dog'}/{name}": data for at, (name, data) in enumerate(PICTURES.items())}
    source = lay(tmp_path / "src", files)
    of_folders, of_template = (
        [("dog", "a cat")[at % 2] for at in range(COUNT)],
        [("a dog!", "a a cat!")[at % 2] for at in range(COUNT)],
    )
    assert pairs(made(source, captions="folders")) == expected([(each,) for each in of_folders])
    found = made(source, captions="a {class}!")
    assert pairs(found) == expected([(each,) for each in of_template])
    assert found.report.captions is not None
    assert found.report.captions.held_out == "none", "classes are in every split"
    assert "held-out items have a caption that training items have too" in found.words


def test_a_public_set_is_captioned_by_a_template_and_else_keeps_its_bytes(tmp_path: Path) -> None:
    plain = prepare("uci-digits", tmp_path / "plain", cache=tmp_path / "cache", progress=False)
    said = prepare("uci-digits", tmp_path / "said", captions="a handwritten {class}", cache=tmp_path / "cache", progress=False)
    assert (plain.captions, said.captions) == (0, 10)
    assert "captions" not in (tmp_path / "plain" / "dataset.json").read_text()
    assert plain.shards == said.shards, "captions move no item of another split"
    split = open_split(tmp_path / "said", "test")
    assert [said for (said,) in split.captions or ()] == [f"a handwritten {label}" for label in split.labels]
    assert open_split(tmp_path / "plain", "test").captions is None


# Splits


def test_items_that_share_a_caption_or_are_equal_fall_into_one_split(made: Make, tmp_path: Path) -> None:
    """Pairs share their second caption; the last two pictures are one file with other captions."""
    said = [[SAID[at], f"pair {at // 2}"] for at in range(COUNT)]
    pictures = PICTURES | {NAMES[-1]: PICTURES[NAMES[0]]}
    source = lay(tmp_path / "src", pictures | {"metadata.jsonl": jsonl(list(said), key="captions")})
    for seed in (0, 1, 2):
        found = made(source, seed=seed)
        splits = {name: {text for texts in open_split(found.folder, name).captions or () for text in texts} for name in SPLITS}
        assert not splits["train"] & (splits["validation"] | splits["test"])
        assert not splits["validation"] & splits["test"]
        of_same = {name for name, texts in splits.items() if {"pair 0", f"pair {COUNT // 2 - 1}"} & texts}
        assert len(of_same) == 1, "the same file twice"
        assert found.report.captions is not None
        assert (found.report.captions.held_out, found.report.captions.seen) == ("all", 0)
        assert found.report.shared == 0
        assert found.manifest.splits["train"] < COUNT, "and something is held out"


def test_a_word_that_many_captions_name_holds_out_the_first_alone(made: Make, tmp_path: Path) -> None:
    said = [[SAID[at], f"tag {at % 3}"] for at in range(COUNT)]
    found = made(lay(tmp_path / "src", PICTURES | {"metadata.jsonl": jsonl(list(said), key="captions")}))
    assert found.report.captions is not None
    assert (found.report.captions.held_out, found.report.captions.seen) == ("first", 0)
    assert found.manifest.splits == made(lay(tmp_path / "plain", PICTURES)).manifest.splits


def test_captions_of_few_kinds_are_in_every_split_and_it_is_said(made: Make, tmp_path: Path) -> None:
    said = [f"a handwritten {WORDS[label]}" for label in load_digits().target[:COUNT]]
    found = made(lay(tmp_path / "src", PICTURES | {"metadata.jsonl": jsonl(list(said))}))
    assert found.report.captions is not None
    assert (found.report.captions.held_out, found.manifest.captions) == ("none", 10)
    assert found.report.captions.seen == found.manifest.splits["validation"] + found.manifest.splits["test"]
    assert found.report.captions.repeated == COUNT - 10
    assert "WARNING" in found.words


# What is passed over, and refused


def test_what_is_passed_over_is_counted(made: Make, tmp_path: Path) -> None:
    said: list[object] = [[each, each, "", "  "] for each in SAID]
    said[3], said[5], said[7] = [""], ["\0"], [SAID[7], "b\0d"]
    found = made(lay(tmp_path / "src", PICTURES | {"metadata.jsonl": jsonl(said, key="captions")}), captions_missing_max=0.05)
    report = found.report.captions
    assert report is not None
    assert (report.missing, report.unusable, report.twice, report.empty) == (2, 2, COUNT - 3, 2 * (COUNT - 3) + 1)
    assert found.manifest.quarantine.reasons == {"no-caption": 2}
    assert found.manifest.count == COUNT - 2
    assert "2 items without one" in found.words


def refused(tmp_path: Path, files: dict[str, bytes], **options: object) -> str:
    source = lay(tmp_path / "src", PICTURES | files)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "made", cache=tmp_path / "cache", progress=False, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()
    return str(caught.value)


LONG = "word " * 1000
REFUSED: dict[str, tuple[dict[str, bytes], dict[str, object], str]] = {
    "missing": (
        {"metadata.jsonl": jsonl(list(SAID[:70]), names=NAMES[:70])},
        {},
        "10 of 80 items have no caption that can be used, first 070.png (none); allowed: 1.00% (--captions-missing-max)",
    ),
    "empty": (
        beside(["", " \n", "", *SAID[3:]]),
        {},
        "3 of 80 items have no caption that can be used, first 000.png (it is empty)",
    ),
    "no UTF-8": (
        beside([SAID[0], "caf\udce9", *SAID[2:]]),
        {},
        "1 of 80 items have no caption that can be used, first 001.png: not UTF-8",
    ),
    "control": (beside([SAID[0], "a\x1b[2Jb", *SAID[2:]]), {}, "first 001.png: a control character"),
    "overlong": (beside([SAID[0], LONG, *SAID[2:]]), {}, "first 001.png: 4,999 characters, and a caption has 4,096 at most"),
    "a surrogate": ({"metadata.jsonl": jsonl(["\ud800", *SAID[1:]])}, {}, "first 000.png: not UTF-8"),
    "a number": ({"metadata.jsonl": jsonl([3, *SAID[1:]])}, {}, "000.png has the caption 3; allowed: a text, or a list of texts"),
    "commas": (
        {"metadata.csv": b"file_name,text\n000.png,a, b\n"},
        {},
        "1 of 1 rows have more cells than the first row, first 000.png",
    ),
    "no name": ({"metadata.jsonl": b'{"file_name": "000.png", "text": "x"}\n{"text": "y"}'}, {}, "1 of 2 rows have no file_name"),
    "no JSON": (
        {"metadata.jsonl": b'{"file_name"'},
        {"captions": "metadata", "classes": "none"},
        "metadata.jsonl: cannot be read",
    ),
    "wrong names": (
        {"metadata.jsonl": jsonl(list(SAID), names=[f"x/{name}" for name in NAMES])},
        {},
        "none of its 80 captions is of a picture here, first x/000.png",
    ),
    "no file": ({}, {"captions": "metadata"}, "--captions metadata given, and no picture has one; allowed: a metadata.csv or"),
    "an empty file": ({"metadata.csv": b""}, {"captions": "metadata"}, "--captions metadata given, and no picture has one"),
    "no text": (
        {},
        {"captions": "sidecar"},
        "--captions sidecar given, and no picture has one; allowed: NAME.txt beside NAME.png",
    ),
    "no folder": ({}, {"captions": "folders"}, "80 of 80 items have no caption that can be used, first 000.png (none)"),
    "no class": (
        {},
        {"captions": "a {class}"},
        "--captions 'a {class}' names a class, and there are none; make each class a folder",
    ),
    "another key": ({}, {"captions": "a {label}"}, "captions 'a {label}': a template knows no {label}; allowed: {class}"),
    "a number for a key": ({}, {"captions": "a {0}"}, "a template knows no {0}; allowed: {class}"),
    "no key": ({}, {"captions": "a {}"}, "captions 'a {}'; allowed: auto, metadata, sidecar, folders, none, or a template"),
    "a brace": ({}, {"captions": "a {class"}, "captions 'a {class': expected '}' before end of string"),
    "an attribute": ({}, {"captions": "{class.x}"}, "a template knows no {class.x}"),
    "no rule": ({}, {"captions": "sidecars"}, "captions 'sidecars'; allowed: auto, metadata"),
    "repeated": (
        {"metadata.jsonl": jsonl(["a digit"] * 80)},
        {"captions_repeated_max": 0.5},
        "79 of 80 items have the caption of an earlier one; allowed: 50.00% (--captions-repeated-max)",
    ),
    "a share": ({}, {"captions_missing_max": 2.0}, "captions-missing-max 2.0; allowed: 0 to 1"),
    "of an archive of arrays": ({}, {"captions": "metadata"}, "--captions metadata given"),
}


@pytest.mark.parametrize("slip", REFUSED)
def test_captions_that_cannot_be_used_are_refused_in_one_line(slip: str, tmp_path: Path) -> None:
    files, options, text = REFUSED[slip]
    assert text in refused(tmp_path, files, **options)


def test_files_are_asked_of_a_set_that_can_have_none(tmp_path: Path) -> None:
    for rule in ("metadata", "sidecar", "folders"):
        with pytest.raises(
            DataError, match=rf"uci-digits: --captions {rule} given, and it has no such files; allowed: auto, none"
        ):
            prepare("uci-digits", tmp_path / "made", captions=rule, cache=tmp_path / "cache", progress=False)


NO_CAPTIONS: dict[str, tuple[dict[str, bytes], str]] = {
    "boxes": (beside([f"{at % 3} 0.5 0.{at} 0.1 0.2" for at in range(COUNT)]), "most hold no word"),
    "some texts": (dict(list(beside(SAID).items())[:20]), "60 of 80 pictures have none"),
}


@pytest.mark.parametrize("kind", NO_CAPTIONS)
def test_texts_beside_pictures_that_are_no_captions_are_left_alone(kind: str, made: Make, tmp_path: Path) -> None:
    files, why = NO_CAPTIONS[kind]
    found = made(lay(tmp_path / "src", PICTURES | files))
    assert (found.manifest.captions, found.left_alone) == (0, {".txt": len(files)})
    assert f"{len(files)} texts beside pictures are not taken as captions: {why} (--captions sidecar takes them)" in found.words


@pytest.mark.parametrize("door", ["folder", "zip", "tar"])
def test_few_short_values_may_be_labels_until_they_are_called_captions(door: str, made: Make, tmp_path: Path) -> None:
    source = source_of(door, PICTURES | beside([("cat", "dog")[at % 2] for at in range(COUNT)]), tmp_path)
    with pytest.raises(DataError, match=r"seems to hold labels .*--captions sidecar takes them as captions"):
        made(source)
    assert made(source, classes="none").manifest.captions == 0
    found = made(source, captions="sidecar")
    assert (found.manifest.captions, found.manifest.classes, found.left_alone) == (2, (), {})


def test_none_leaves_them_alone(made: Make, tmp_path: Path) -> None:
    source = lay(tmp_path / "src", PICTURES | beside(SAID) | {"metadata.jsonl": jsonl(list(SAID))})
    found = made(source, captions="none")
    assert (found.manifest.captions, found.left_alone) == (0, {".txt": COUNT, ".jsonl": 1})
    assert made(source).left_alone == {".txt": COUNT}, "the metadata is read, and the texts are not"


def test_spaces_and_spellings_are_one() -> None:
    assert cleaned(["  a\tcafe\u0301\n on it "]).captions == ("a caf\u00e9 on it",)
    check_rule("{{literal}} {class}")


# A split gives them back


@pytest.fixture
def captioned(made: Make, tmp_path: Path) -> Prepared:
    return made(lay(tmp_path / "src", PICTURES | {"metadata.jsonl": jsonl([list(each) for each in TWO], key="captions")}))


def bag(texts: "list[str] | tuple[str, ...]") -> np.ndarray:
    """A text as the codes of its last four characters and its length: float32 [N, 2, 4], exact in half precision."""
    return np.stack(
        [np.full((2, 4), len(text)) + np.array([[ord(each) for each in text[-4:]], [0] * 4]) for text in texts]
    ).astype("f4")


def test_a_split_opened_with_embeddings_gives_those_of_a_caption(captioned: Prepared, tmp_path: Path) -> None:
    texts = distinct_captions(captioned.folder)
    assert len(texts) == captioned.manifest.captions == 2 * COUNT
    embed(texts, bag, tmp_path / "embeddings")
    train = open_split(captioned.folder, "train", tmp_path / "embeddings")
    at = np.arange(len(train))
    first, second, third = (train.take_condition(at, epoch=epoch) for epoch in range(3))
    assert train.captions is not None
    for epoch in (first, second):
        for row, said in zip(epoch, train.captions, strict=True):
            assert any((row == bag([text])[0]).all() for text in said)
    assert (first != second).any((1, 2)).all(), "another caption in the next epoch"
    assert (first == third).all(), "and the first again when all were taken"
    starts = {bool((row == bag([said[0]])[0]).all()) for row, said in zip(first, train.captions, strict=True)}
    assert starts == {True, False}, "items do not all begin with their first caption"
    other = open_split(captioned.folder, "train", tmp_path / "embeddings", seed=7)
    drawn = other.take_condition(at)
    assert (drawn != first).any(), "another seed begins some items with another caption"
    assert (drawn == first).all((1, 2)).any(), "and not each"
    assert (drawn == open_split(captioned.folder, "train", tmp_path / "embeddings", seed=7).take_condition(at)).all()
    for opened in (train, other):
        copied = pickle.loads(pickle.dumps(opened))
        assert (copied.take_condition(at, epoch=1) == opened.take_condition(at, epoch=1)).all(), "as a loader's workers open it"


def test_a_seed_changes_nothing_of_what_is_held_out(captioned: Prepared, tmp_path: Path) -> None:
    embed(distinct_captions(captioned.folder), bag, tmp_path / "embeddings")
    one, other = (open_split(captioned.folder, "validation", tmp_path / "embeddings", seed=seed) for seed in (0, 7))
    at = np.arange(len(one))
    assert (one.take_condition(at) == other.take_condition(at)).all()


def test_the_held_out_items_are_asked_for_by_their_first_caption(captioned: Prepared, tmp_path: Path) -> None:
    embed(distinct_captions(captioned.folder), bag, tmp_path / "embeddings", dtype="float32")
    dataset = LocalDataset(
        name="set", path=str(captioned.folder), repo=".", rev="HEAD", md5="0", item=captioned.manifest.item, count=COUNT,
        classes=(), splits=captioned.manifest.splits, mean=(0.0,), std=(1.0,), captions=captioned.manifest.captions,
    )  # fmt: skip
    split = held_out(dataset, tmp_path / "embeddings")
    assert split.captions is not None
    assert len(split.captions) == len(split) == dataset.held_out
    condition = EmbeddingCondition(length=2, features=4, encoder="bag@0", negative=True)
    asked = condition.like(split, 50, seed=3)
    assert asked.shape == (50, 2, 2, 4)
    order = items_asked(split, 50, seed=3)
    assert (asked[:, 0] == bag([split.captions[at][0] for at in order])).all()
    assert (asked[:, 1] == 0).all()


def test_errors_of_embeddings_say_what_to_do(captioned: Prepared, made: Make, tmp_path: Path) -> None:
    condition, at = EmbeddingCondition(length=2, features=4, encoder="bag@0"), np.arange(2)
    with pytest.raises(DataError, match=r"opened without the embeddings of its captions; embed them first"):
        condition.of_items(open_split(captioned.folder, "train"), at)
    with pytest.raises(DataError, match="no embeddings of captions"):
        condition.of_items(open_split(captioned.folder, "train", tmp_path / "none"), at)
    embed(["another"], bag, tmp_path / "embeddings")
    with pytest.raises(DataError, match="has no embedding; embed the captions of this version"):
        condition.of_items(open_split(captioned.folder, "train", tmp_path / "embeddings"), at)
    plain = made(lay(tmp_path / "plain", PICTURES))
    with pytest.raises(DataError, match="asked by a text, and data without captions; prepare it with captions"):
        condition.of_items(open_split(plain.folder, "train", tmp_path / "embeddings"), at)


def test_captions_are_part_of_the_version(captioned: Prepared, tmp_path: Path) -> None:
    digest = captions_digest(captioned.manifest)
    path = captioned.folder / captioned.manifest.caption_files["test"].file
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"a handwritten", b"a hendwritten", 1))
    check_sizes(captioned.folder)
    with pytest.raises(DataError, match=r"test.captions.jsonl: corrupt: its SHA-256"):
        verify(captioned.folder)
    path.write_bytes(whole[:-3])
    with pytest.raises(DataError, match=r"test.captions.jsonl: corrupt: \d+ bytes instead of"):
        open_split(captioned.folder, "test")
    path.unlink()
    with pytest.raises(DataError, match=r"test.captions.jsonl: missing"):
        check_sizes(captioned.folder)
    again = prepare(tmp_path / "src", tmp_path / "again", cache=tmp_path / "cache", progress=False)
    assert again == captioned.manifest, "the same captions give the same bytes"
    assert captions_digest(again) == digest
