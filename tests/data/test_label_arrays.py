"""Labels in an npz are kept in every form that is plainly one an image; an array that may be labels is never passed over."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError

from .conftest import Prepared, blocks

Make = Callable[..., Prepared]
IMAGES = np.stack([blocks(at) for at in range(40)])
EACH = np.arange(40) % 2
NAMES = np.array(["cat", "dog"])[EACH]

KEPT = {
    "numbers": EACH.astype(np.uint8),
    "text": NAMES,
    "bytes": NAMES.astype("S"),
    "float": EACH.astype(np.float32),
    "float of half": EACH.astype(np.float16),
    "one of two": np.eye(2, dtype=np.float32)[EACH],
    "one of two in Fortran order": np.asfortranarray(np.eye(2, dtype=np.uint8)[EACH]),
    "true and false of two": np.eye(2, dtype=bool)[EACH],
    "a column": EACH[:, None],
}
REFUSED = {
    "objects": (NAMES.astype(object), r"holds Python objects.*astype\(str\)"),
    "nan": (np.where(EACH, np.nan, 1), "float64"),
    "halves": (EACH / 2, "float64"),
    "two of three": (np.array([[1, 1, 0], [0, 0, 1]], np.float32)[EACH], "float32"),
    "shares": (np.array([[0.9, 0.1], [0.2, 0.8]])[EACH], "float64"),
    "empty text": (np.where(EACH, "cat", ""), "empty"),
    "too few": (EACH[:39], r"\[39\] for 40 images"),
    "true and false": (EACH.astype(bool), "bool"),
}


def written(to: Path, **arrays: np.ndarray) -> Path:
    np.savez(to / "x.npz", images=IMAGES, **arrays)
    return to / "x.npz"


@pytest.mark.parametrize("form", KEPT)
def test_labels_are_kept(form: str, made: Make, tmp_path: Path) -> None:
    found = made(written(tmp_path, labels=KEPT[form]))
    first, second = ("cat", "dog") if form in ("text", "bytes") else ("0", "1")
    assert found.by_class == {first: {each.tobytes() for each in IMAGES[::2]}, second: {each.tobytes() for each in IMAGES[1::2]}}
    assert found.left_alone == {}


@pytest.mark.parametrize("form", REFUSED)
def test_labels_that_cannot_be_read_are_refused(form: str, made: Make, tmp_path: Path) -> None:
    labels, text = REFUSED[form]
    source = written(tmp_path, labels=labels)
    with pytest.raises(DataError, match=f"{text}.*--classes none") as caught:
        made(source)
    assert "\n" not in str(caught.value)
    found = made(source, classes="none")
    assert (found.manifest.classes, found.left_alone) == ((), {"array labels": 1})


OTHERS = KEPT | {"objects": NAMES.astype(object)}


@pytest.mark.parametrize("form", OTHERS)
def test_labels_under_another_name_are_refused(form: str, made: Make, tmp_path: Path) -> None:
    source = written(tmp_path, y=OTHERS[form])
    with pytest.raises(DataError, match=r"array 'y' may be the labels of its 40 images; rename it labels.*--classes none"):
        made(source)
    found = made(source, classes="none")
    assert (found.manifest.classes, found.left_alone) == ((), {"array y": 1})


@pytest.mark.parametrize("name", ["y_train", "targets", "class_labels"])
def test_an_array_named_as_labels_is_refused_whatever_it_holds(name: str, made: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"array '{name}' may be the labels"):
        made(written(tmp_path, **{name: np.full((40, 3), 0.25)}))


def test_features_and_weights_are_left_alone(made: Make, tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(40, 9)).astype(np.float32)
    found = made(written(tmp_path, features=features, weights=features[:, 0], mean=np.zeros(3)))
    assert found.left_alone == {"array features": 1, "array weights": 1, "array mean": 1}
