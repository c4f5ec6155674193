"""Folders that are splits are no classes, whatever they are called; classes that share a word with a split stay classes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import DataError

from .conftest import Prepared, blocks, encoded, lay

Make = Callable[..., Prepared]
SPLITS = [
    ("train", "test", "extra"),
    ("train2017", "val2017"),
    ("train", "dev", "test"),
    ("val", "valid", "validation"),
    ("Training", "Testing"),
    ("train_set", "eval_set", "holdout"),
    ("trainA", "trainB", "testA", "testB"),
    ("birds_train", "birds_test"),
    ("train", "test", "unlabeled"),
    ("train", "val", "misc"),
    ("test", "val"),
    ("train-images", "test-images"),
]
CLASSES = [("train", "bus", "tram"), ("test", "control"), ("train_station", "test_tube"), ("extra", "plain"), ("dev1", "dev2")]


def in_folders(to: Path, names: tuple[str, ...], below: str = "") -> Path:
    return lay(to / "src", {f"{names[at % len(names)]}{below}/{at:03}.png": encoded(blocks(at)) for at in range(40)})


@pytest.mark.parametrize("names", SPLITS, ids=" ".join)
def test_splits_are_no_classes(names: tuple[str, ...], made: Make, tmp_path: Path) -> None:
    source = in_folders(tmp_path, names, "/cat" if len(names) == 2 else "")
    with pytest.raises(DataError, match=r"look like splits, not classes; name one .*--classes folders.*--classes none") as caught:
        made(source)
    assert "\n" not in str(caught.value)


def test_the_user_has_the_last_word(made: Make, tmp_path: Path) -> None:
    source = in_folders(tmp_path, ("train2017", "val2017"))
    assert made(source, classes="none").manifest.classes == ()
    assert made(source, classes="folders").manifest.classes == ("train2017", "val2017")


@pytest.mark.parametrize("names", CLASSES, ids=" ".join)
def test_classes_with_such_a_word_stay_classes(names: tuple[str, ...], made: Make, tmp_path: Path) -> None:
    assert made(in_folders(tmp_path, names)).manifest.classes == tuple(sorted(names))
