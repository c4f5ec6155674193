"""Bundles survive the way through a store, and no tampering does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.bundles import BUNDLE_JSON, address_of, parse_bundle, seal_bundle
from components.core.errors import BundleError, StorageError
from components.core.noise import NoiseInput
from components.core.stores import ObjectStore
from components.delivery.bundles import bundle_uri, fetch_bundle, put_bundle, read_bundle
from components.delivery.local import LocalStore
from components.delivery.store import open_store

MakeBundle = Callable[..., Path]


def test_there_and_back(store: ObjectStore, make_bundle: MakeBundle, tmp_path: Path) -> None:
    folder = make_bundle(b"a graph" * 2_000_000)
    stored = put_bundle(store, folder)
    assert bundle_uri(store, stored.sha256) == f"{store.uri}/bundles/{stored.sha256}"
    assert store.list("") == [f"bundles/{stored.sha256}/{name}" for name in ("bundle.json", "model.onnx", "samples.png")]
    back = fetch_bundle(store, stored.sha256, tmp_path / "cache")
    own = store.root / "bundles" if isinstance(store, LocalStore) else None
    assert back == (own or tmp_path / "cache") / stored.sha256
    assert read_bundle(back, sha256=stored.sha256) == stored.bundle
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert put_bundle(store, folder) == stored
    assert [path.name for path in tmp_path.glob("cache/*")] == ([] if own else [stored.sha256])


def test_a_folder_keeps_the_files_themselves_and_replaces_what_was_damaged(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Written once: the files that were sealed are those that are served. What damages one damages both, so the same is made
    again from elsewhere."""
    store, folder = open_store(str(tmp_path / "store")), make_bundle()
    sha256 = put_bundle(store, folder).sha256
    served = fetch_bundle(store, sha256, tmp_path / "cache") / "model.onnx"
    assert served.samefile(folder / "model.onnx")
    flip("model.onnx")(folder)
    with pytest.raises(
        BundleError, match=r"model.onnx: its SHA-256 .*; remove it from the store, and run the stage that makes it"
    ):
        fetch_bundle(store, sha256, tmp_path / "cache")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(b"a graph")
    assert put_bundle(store, folder).sha256 == sha256
    assert fetch_bundle(store, sha256, tmp_path / "cache").joinpath("model.onnx").read_bytes() == b"a graph"


class Elsewhere(LocalStore):
    """A store whose objects are no files of this machine, as those of S3 are not."""

    def path_of(self, key: str) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_batch": 0}, "max_batch: "),
        ({"max_batch": 1025}, "max_batch: "),
        (
            {"noise": (NoiseInput(name="z", shape=(2**21,)),), "max_batch": 1024},
            "1024 items of 'z', [2097152]; allowed: up to 4 GB a batch",
        ),
        ({"noise": (NoiseInput(name="z", shape=(4,)).model_copy(update={"shape": (0,)}),)}, "noise.0.shape.0: "),
    ],
)
def test_a_bundle_of_sizes_that_cannot_be_is_refused(make_bundle: MakeBundle, changes: dict[str, Any], says: str) -> None:
    folder = make_bundle()
    seal_bundle(folder, read_bundle(folder).model_copy(update=changes))
    with pytest.raises(BundleError) as refused:
        read_bundle(folder)
    assert says in str(refused.value)


def test_an_intact_copy_is_reused_and_a_damaged_one_replaced(make_bundle: MakeBundle, tmp_path: Path) -> None:
    store = Elsewhere(tmp_path / "store")
    sha256 = put_bundle(store, make_bundle()).sha256
    first = fetch_bundle(store, sha256, tmp_path / "cache")
    inode = (first / "model.onnx").stat().st_ino
    fetch_bundle(store, sha256, tmp_path / "cache")
    assert (first / "model.onnx").stat().st_ino == inode
    (first / "model.onnx").write_bytes(b"b graph")
    fetch_bundle(store, sha256, tmp_path / "cache")
    assert (first / "model.onnx").read_bytes() == b"a graph"


def test_a_put_killed_after_any_file_is_finished_by_the_next(make_bundle: MakeBundle, tmp_path: Path) -> None:
    folder = make_bundle()
    code = """
import os, signal, sys
from pathlib import Path
from components.delivery.bundles import put_bundle
from components.delivery.local import LocalStore
from components.delivery.store import open_store
store = open_store(sys.argv[1])
left = int(sys.argv[3])
class Dying:
    uri = store.uri
    def put_if_absent(self, key, data, *, final=False):
        global left
        done = store.put_if_absent(key, data)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
put_bundle(Dying(), Path(sys.argv[2]))
"""
    for files in (1, 2, 3):
        uri = str(tmp_path / f"store-{files}")
        assert subprocess.run([sys.executable, "-c", code, uri, folder, str(files)], check=False).returncode == -9
        store = open_store(uri)
        sha256 = read_bundle(folder).digest()
        if files < 3:
            with pytest.raises(BundleError, match="no such bundle"):
                fetch_bundle(store, sha256, tmp_path / "cache")
        assert put_bundle(store, folder).sha256 == sha256
        assert fetch_bundle(store, sha256, tmp_path / f"cache-{files}").is_dir()


def rewrite(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change the record, and write it as canonically as a record with an unknown key can be."""

    def apply(folder: Path) -> None:
        record = json.loads((folder / BUNDLE_JSON).read_bytes())
        change(record)
        (folder / BUNDLE_JSON).write_bytes(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())

    return apply


def flip(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return apply


def symlink(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "outside")
    (folder / "model.onnx").symlink_to(folder.parent / "outside")


def test_a_file_with_another_name_is_as_good_as_its_bytes(make_bundle: MakeBundle) -> None:
    """A folder store keeps one file by several names. Through which of them it was changed makes no difference."""
    folder = make_bundle()
    os.link(folder / "model.onnx", folder.parent / "outside")
    bundle = read_bundle(folder)
    (folder.parent / "outside").write_bytes(b"b graph")
    with pytest.raises(BundleError, match=r"model.onnx: its SHA-256 is"):
        read_bundle(folder, sha256=bundle.digest())


def named_twice(record: dict[str, Any]) -> None:
    record["files"].append(record["files"][0])


TAMPERING: dict[str, tuple[Callable[[Path], Any], str]] = {
    "bit flip": (flip("model.onnx"), "model.onnx: its SHA-256 is"),
    "bit flip in the picture": (flip("samples.png"), "samples.png: its SHA-256 is"),
    "truncated": (lambda folder: (folder / "model.onnx").write_bytes(b"a gr"), "4 bytes, expected 7"),
    "missing file": (lambda folder: (folder / "samples.png").unlink(), "samples.png: missing"),
    "missing record": (lambda folder: (folder / BUNDLE_JSON).unlink(), "bundle.json: missing"),
    "external data": (
        lambda folder: (folder / "model.onnx.data").write_bytes(b"x"),
        "model.onnx.data: not a file of this bundle",
    ),
    "extra folder": (lambda folder: (folder / "more").mkdir(), "more: not a file of this bundle"),
    "symlink": (symlink, "model.onnx: not a regular file"),
    "pipe": (lambda folder: ((folder / "model.onnx").unlink(), os.mkfifo(folder / "model.onnx")), "not a regular file"),
    "extra key": (rewrite(lambda record: record.update(backdoor=1)), "backdoor"),
    "missing key": (rewrite(lambda record: record.pop("opset")), "opset: Field required"),
    "wrong digest": (rewrite(lambda record: record["files"][0].update(sha256="0" * 64)), "expected 0000"),
    "path out": (rewrite(lambda record: record["files"][0].update(name="../model.onnx")), "file name '../model.onnx'"),
    "names itself": (rewrite(lambda record: record["files"][0].update(name=BUNDLE_JSON)), "file name 'bundle.json'"),
    "named twice": (rewrite(named_twice), "it names the files"),
    "no model": (rewrite(lambda record: record["files"].pop(0)), "model.onnx among them"),
    "not JSON": (lambda folder: (folder / BUNDLE_JSON).write_bytes(b"\x00{"), "not a bundle"),
    "spaces": (
        lambda folder: (folder / BUNDLE_JSON).write_bytes((folder / BUNDLE_JSON).read_bytes() + b"\n"),
        "not in canonical form",
    ),
    "huge record": (lambda folder: (folder / BUNDLE_JSON).write_bytes(b" " * (5 << 20)), "larger than"),
}


def test_a_bundle_of_before_a_field_was_added_keeps_its_address(make_bundle: MakeBundle, tmp_path: Path) -> None:
    folder = make_bundle()
    rewrite(lambda record: record["spec"].pop("std"))(folder)
    sha256 = address_of(folder)
    assert read_bundle(folder, sha256=sha256).spec.std == 0.5
    store = open_store(str(tmp_path / "store"))
    assert put_bundle(store, folder).sha256 == sha256
    back = fetch_bundle(store, sha256, tmp_path / "cache")
    assert (back / BUNDLE_JSON).read_bytes() == (folder / BUNDLE_JSON).read_bytes()


@pytest.mark.parametrize(("tamper", "says"), TAMPERING.values(), ids=TAMPERING)
def test_tampering_is_refused(make_bundle: MakeBundle, tmp_path: Path, tamper: Callable[[Path], Any], says: str) -> None:
    folder = make_bundle()
    read_bundle(folder)
    tamper(folder)
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(BundleError):
        put_bundle(store, folder)
    assert store.list("") == []


def test_another_bundle_in_its_place_is_refused(make_bundle: MakeBundle) -> None:
    one, other = make_bundle(name="one"), make_bundle(b"b graph", name="other")
    sha256 = read_bundle(one).digest()
    with pytest.raises(BundleError, match=f"expected {sha256}"):
        read_bundle(other, sha256=sha256)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle folder"):
        read_bundle(tmp_path / "absent")


@pytest.mark.parametrize("kind", [LocalStore, Elsewhere])
@pytest.mark.parametrize("name", ["model.onnx", BUNDLE_JSON])
def test_tampering_in_the_store_is_refused(make_bundle: MakeBundle, tmp_path: Path, name: str, kind: type[LocalStore]) -> None:
    store = kind(tmp_path / "store")
    stored = put_bundle(store, make_bundle())
    flip(name)(tmp_path / "store" / "bundles" / stored.sha256)
    with pytest.raises(BundleError, match=f"{name}: its SHA-256 is"):
        fetch_bundle(store, stored.sha256, tmp_path / "cache")
    assert list(tmp_path.glob("cache/*")) == []


@pytest.mark.parametrize("kind", [LocalStore, Elsewhere])
def test_an_extra_object_in_the_store_is_refused(make_bundle: MakeBundle, tmp_path: Path, kind: type[LocalStore]) -> None:
    store = kind(tmp_path / "store")
    stored = put_bundle(store, make_bundle())
    store.put_if_absent(f"bundles/{stored.sha256}/model.onnx.data", b"x")
    with pytest.raises(BundleError, match=r"model\.onnx\.data: not a file of this bundle"):
        fetch_bundle(store, stored.sha256, tmp_path / "cache")


@pytest.mark.parametrize("kind", [LocalStore, Elsewhere])
def test_a_missing_object_in_the_store(make_bundle: MakeBundle, tmp_path: Path, kind: type[LocalStore]) -> None:
    store = kind(tmp_path / "store")
    stored = put_bundle(store, make_bundle())
    (tmp_path / "store" / "bundles" / stored.sha256 / "model.onnx").unlink()
    with pytest.raises(StorageError, match=r"model\.onnx: no such object"):
        fetch_bundle(store, stored.sha256, tmp_path / "cache")
    assert list(tmp_path.glob("cache/*")) == []


def test_other_bytes_under_the_same_address(make_bundle: MakeBundle, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    folder = make_bundle()
    store.put_if_absent(f"bundles/{read_bundle(folder).digest()}/{BUNDLE_JSON}", b"{}")
    with pytest.raises(BundleError, match="other bytes under this address"):
        put_bundle(store, folder)


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle '\.\./x'"):
        fetch_bundle(open_store(str(tmp_path)), "../x", tmp_path)


def test_the_address_is_the_hash_of_the_record(make_bundle: MakeBundle, tmp_path: Path) -> None:
    folder = make_bundle()
    data = (folder / BUNDLE_JSON).read_bytes()
    bundle = parse_bundle(data, where="here", sha256=read_bundle(folder).digest())
    (tmp_path / "again").mkdir()
    assert seal_bundle(tmp_path / "again", bundle) == bundle.digest()
    assert (tmp_path / "again" / BUNDLE_JSON).read_bytes() == data
