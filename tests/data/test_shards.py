"""Prepared splits as they are read: any index, any order, without trusting the disk."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError
from components.core.protocols import ItemSplit
from components.data.prepare import prepare
from components.data.shards import open_split, verify


@pytest.fixture
def folder(image_folder: Path, tmp_path: Path) -> Path:
    """64 pictures in shards of 8."""
    prepare(image_folder, tmp_path / "set", cache=tmp_path, progress=False, shard_bytes=8 * 64)
    return tmp_path / "set"


def test_take_gives_each_index_its_own_picture(folder: Path) -> None:
    split: ItemSplit = open_split(folder, "train")
    assert len(sorted(folder.glob("train-?????.npy"))) == 4
    whole = np.concatenate([np.load(path) for path in sorted(folder.glob("train-?????.npy"))])
    labels = np.concatenate([np.load(path) for path in sorted(folder.glob("train-*.labels.npy"))])
    assert len(split) == len(whole)
    order = np.random.default_rng(0).integers(0, len(whole), 500)
    np.testing.assert_array_equal(split.take(order), whole[order])
    np.testing.assert_array_equal(split.labels, labels)
    assert split.take(np.array([], np.int64)).shape == (0, 8, 8, 1)
    assert split.take(order).flags.writeable


@pytest.mark.parametrize("bad", [-1, 10_000])
def test_an_index_outside_is_refused(folder: Path, bad: int) -> None:
    with pytest.raises(IndexError):
        open_split(folder, "train").take(np.array([0, bad]))


def test_it_travels_to_a_worker_as_a_path(folder: Path) -> None:
    split = open_split(folder, "train")
    data = pickle.dumps(split)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).take(np.arange(5)), split.take(np.arange(5)))


def spoil(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return do


DAMAGE = {
    "truncated": (spoil("train-00003.npy", lambda data: data[:-1]), r"train-00003\.npy: corrupt: 639 bytes instead of 640"),
    "longer": (spoil("train-00003.npy", lambda data: data + b"x"), r"train-00003\.npy: corrupt"),
    "empty": (spoil("train-00003.npy", lambda data: b""), r"train-00003\.npy: corrupt"),
    "header": (spoil("train-00003.npy", lambda data: b"x" * 8 + data[8:]), r"train-00003\.npy: corrupt"),
    "other kind": (spoil("train-00003.npy", lambda data: data.replace(b"|u1", b"|i1")), r"train-00003\.npy: corrupt: int8"),
    "labels": (spoil("train-00003.labels.npy", lambda data: data[:-8]), r"train-00003\.labels\.npy: corrupt"),
    "missing": (lambda folder: (folder / "train-00003.npy").unlink(), r"train-00003\.npy: missing"),
    "manifest": (spoil("dataset.json", lambda data: data[:50]), r"dataset\.json: damaged"),
    "no manifest": (lambda folder: (folder / "dataset.json").unlink(), "not a prepared dataset"),
    "newer": (
        spoil("dataset.json", lambda data: data.replace(b'"format": 1', b'"format": 2')),
        r"dataset\.json: damaged: format",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_in_one_line(folder: Path, kind: str) -> None:
    do, text = DAMAGE[kind]
    do(folder)
    for look in (lambda: open_split(folder, "train"), lambda: verify(folder)):
        with pytest.raises(DataError, match=text) as caught:
            look()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["train-00003.npy", "test-00000.labels.npy"])
def test_verify_sees_a_single_flipped_bit(folder: Path, name: str) -> None:
    verify(folder)
    spoil(name, lambda data: data[:-1] + bytes([data[-1] ^ 1]))(folder)
    with pytest.raises(DataError, match=f"{name}: corrupt"):
        verify(folder)


def test_an_unknown_split(folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'dev'; allowed: train, validation, test"):
        open_split(folder, "dev")  # type: ignore[arg-type]
