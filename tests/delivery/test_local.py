"""What only a folder store can do wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import SettingsError, StorageError
from components.delivery.local import LocalStore
from components.delivery.store import open_store


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    assert store.list("") == []
    assert store.get("a") is None
    assert not (tmp_path / "store").exists()


def test_a_file_uri_names_the_same_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "a store"))
    store.put_if_absent("a", b"1")
    again = open_store(store.uri)
    assert again.uri == store.uri
    assert again.get("a") == store.get("a")


def test_kill_9_in_the_middle_of_a_put_shows_nothing(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # a source that stalls half-way, so that the kill always hits the middle
    os.mkfifo(pipe)
    code = "import sys, pathlib\nfrom components.delivery.local import LocalStore\n"
    code += "LocalStore(pathlib.Path(sys.argv[1])).put_if_absent('a/b', pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "store"), str(pipe)])
    with pipe.open("wb") as source:
        source.write(b"half")
        source.flush()
        process.kill()
        process.wait()
    store = LocalStore(tmp_path / "store")
    assert store.get("a/b") is None
    assert store.list("") == []
    assert store.put_if_absent("a/b", b"whole")
    assert store.list("") == ["a/b"]


def test_leftovers_of_a_killed_writer_are_swept_after_a_day(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("a", b"1")
    old, young = tmp_path / ".partial" / "old", tmp_path / ".partial" / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.put_if_absent("b", b"1")
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="Not a directory"):
        LocalStore(tmp_path / "file" / "store").put_if_absent("a", b"1")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "an empty store URI"),
        ("gs://bucket", "not an object store"),
        ("~no-such-user/store", "no such user"),
        ("http://host/x", "not an object store"),
        ("file://host/x", "a file URI with a host"),
        ("s3://", "bucket ''"),
        ("s3://Big_Bucket/x", "bucket 'Big_Bucket'"),
        ("s3://bucket/../x", "prefix '../x'"),
    ],
)
def test_a_uri_that_names_no_store(uri: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        open_store(uri)
    assert "allowed: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_is_no_address() -> None:
    with pytest.raises(SettingsError, match="'localhost:8333'"):
        open_store("s3://bucket", s3_endpoint="localhost:8333")
