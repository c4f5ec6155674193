"""Every source, on real small data: the same pictures through every door give the same pixels and classes."""

import gzip
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from components.core.errors import DataError
from components.data.archives import Archive, RawFile
from components.data.manifest import Manifest
from components.data.prepare import prepare
from components.data.shards import open_split, verify
from components.data.sources.cifar10 import Cifar10
from components.data.sources.find import named_sources
from components.data.sources.mnist import Mnist
from components.data.splits import SPLITS


def prepared(source: object, tmp_path: Path, **options: object) -> tuple[Manifest, Path]:
    dest = tmp_path / "prepared"
    manifest = prepare(source, dest, cache=tmp_path / "cache", progress=False, **options)  # type: ignore[arg-type]
    assert verify(dest) == manifest
    return manifest, dest


def everything(dest: Path) -> dict[bytes, int]:
    """Each picture's bytes and its label, over all splits."""
    found = {}
    for split in SPLITS:
        part = open_split(dest, split)
        images = part.take(np.arange(len(part)))
        labels = part.labels if part.labels is not None else np.full(len(part), -1)
        found |= {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    return found


def as_zip(folder: Path, to: Path) -> Path:
    with zipfile.ZipFile(to / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, f"top/{path.relative_to(folder)}")
        archive.writestr("__MACOSX/top/even/._000.png", b"rubbish")
    return to / "pictures.zip"


def as_tar(kind: str) -> Callable[[Path, Path], Path]:
    def pack(folder: Path, to: Path) -> Path:
        path = to / f"pictures.tar{'.' + kind if kind else ''}"
        with tarfile.open(path, f"w:{kind}") as archive:
            archive.add(folder, "top")
        return path

    return pack


def as_webdataset(folder: Path, to: Path) -> Path:
    """Two shards; in the second the label comes before the picture."""
    shards = to / "shards"
    shards.mkdir()
    for half in (0, 1):
        with tarfile.open(shards / f"part-{half:05d}.tar", "w") as archive:
            for at, path in enumerate(sorted(folder.rglob("*.png"), key=lambda path: path.name)):
                if at % 2 != half:
                    continue
                pair = [("png", path.read_bytes()), ("cls", str(at % 2).encode()), ("json", b"{}")]
                for suffix, data in pair if half == 0 else reversed(pair):
                    info = tarfile.TarInfo(f"s/{path.stem}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return shards


def as_npz(folder: Path, to: Path) -> Path:
    paths = sorted(folder.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.savez_compressed(to / "pictures.npz", images=images, labels=[path.parent.name for path in paths])
    return to / "pictures.npz"


DOORS = {
    "folder": lambda folder, to: folder,
    "zip": as_zip,
    "tar": as_tar(""),
    "tar.gz": as_tar("gz"),
    "tar.xz": as_tar("xz"),
    "webdataset": as_webdataset,
    "npz": as_npz,
}


@pytest.mark.parametrize("door", DOORS)
def test_the_same_pictures_through_every_door(door: str, image_folder: Path, pictures: list[bytes], tmp_path: Path) -> None:
    manifest, dest = prepared(DOORS[door](image_folder, tmp_path), tmp_path)
    expected = {np.asarray(Image.open(io.BytesIO(data))).tobytes(): at % 2 for at, data in enumerate(pictures)}
    assert everything(dest) == expected
    assert manifest.shape == (8, 8, 1)
    assert manifest.classes == (("0", "1") if door == "webdataset" else ("even", "odd"))
    assert manifest.class_counts == (32, 32)
    assert manifest.count == 64
    assert all(manifest.splits[split] >= 6 for split in SPLITS)
    assert manifest.resizer is None


def test_one_folder_alone_is_no_class(image_folder: Path, tmp_path: Path) -> None:
    manifest, dest = prepared(image_folder / "even", tmp_path)
    assert manifest.classes == ()
    assert open_split(dest, "train").labels is None


def test_an_npz_without_labels_and_with_colour(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 7, 3), np.uint8)
    np.savez(tmp_path / "x.npz", images=images)
    manifest, dest = prepared(tmp_path / "x.npz", tmp_path)
    assert (manifest.shape, manifest.classes, manifest.count) == ((5, 7, 3), (), 40)
    assert set(everything(dest)) == {image.tobytes() for image in images}


def test_uci_digits_keep_their_sixteen_levels(tmp_path: Path) -> None:
    manifest, dest = prepared("uci-digits", tmp_path)
    digits = load_digits()
    exact = np.rint(digits.images * 255 / 16 + 1e-9).astype(np.uint8)
    assert everything(dest) == {image.tobytes(): int(label) for image, label in zip(exact, digits.target, strict=True)}
    assert {0, 128, 255} <= set(np.unique(exact))
    assert len(np.unique(exact)) == 17
    assert manifest.classes == tuple("0123456789")
    train = open_split(dest, "train").take(np.arange(manifest.splits["train"]))
    np.testing.assert_allclose(manifest.mean, train.mean((0, 1, 2)), atol=1e-8)
    np.testing.assert_allclose(manifest.std, train.std((0, 1, 2)), atol=1e-8)


def small_mirror(folder: Path, files: dict[str, bytes], packed: dict[str, bytes]) -> tuple[Archive, ...]:
    """A mirror of a few real digits in a set's own file format, and the archives that describe it."""
    archives = []
    for path, data in packed.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        inside = [name for name in files if path.endswith(".tar.gz") or path == f"mnist/{name}.gz"]
        raws = tuple(RawFile(name, hashlib.md5(files[name]).hexdigest(), len(files[name])) for name in inside)
        archives.append(Archive(path, (), raws))
    return tuple(archives)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def test_mnist_files_keep_their_official_test_split(tmp_path: Path) -> None:
    images, labels = np.uint8(load_digits().images * 15), np.uint8(load_digits().target)
    files = {
        "train-images-idx3-ubyte": idx(images[:100]),
        "train-labels-idx1-ubyte": idx(labels[:100]),
        "t10k-images-idx3-ubyte": idx(images[100:140]),
        "t10k-labels-idx1-ubyte": idx(labels[100:140]),
    }
    packed = {f"mnist/{name}.gz": gzip.compress(data) for name, data in files.items()}
    archives = small_mirror(tmp_path / "m", files, packed)
    source = Mnist(cache=tmp_path / "cache", mirror=str(tmp_path / "m"), archives=archives)
    manifest, dest = prepared(source, tmp_path)
    assert manifest.splits == {"train": 90, "validation": 10, "test": 40}
    test = open_split(dest, "test")
    np.testing.assert_array_equal(test.take(np.arange(40))[..., 0], images[100:140])
    np.testing.assert_array_equal(test.labels, labels[100:140])


def test_cifar10_rows_become_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 32, 32, 3), np.uint8)
    rows = np.concatenate([np.uint8(np.arange(90) % 10)[:, None], pixels.transpose(0, 3, 1, 2).reshape(90, -1)], 1)
    files = {"data_batch_1.bin": rows[:60].tobytes(), "test_batch.bin": rows[60:].tobytes()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in reversed(files.items()):  # a mirror may have them in another order
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    archives = small_mirror(tmp_path / "m", files, {"cifar-10/cifar-10-binary.tar.gz": buffer.getvalue()})
    source = Cifar10(cache=tmp_path / "cache", mirror=str(tmp_path / "m"), archives=archives)
    manifest, dest = prepared(source, tmp_path)
    assert manifest.splits == {"train": 54, "validation": 6, "test": 30}
    test = open_split(dest, "test")
    np.testing.assert_array_equal(test.take(np.arange(30)), pixels[60:])
    assert [manifest.classes[label] for label in test.labels[:2]] == ["airplane", "automobile"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "train_mean"),
    [("mnist", 70_000, [33.32]), ("cifar10", 60_000, [125.3, 123.0, 113.9]), ("emoji", 3_786, None)],
)
def test_the_real_sets(name: str, count: int, train_mean: list[float] | None, tmp_path: Path) -> None:
    mirror = os.environ.get("GENWRIGHT_DATA_MIRROR")
    if not mirror:
        pytest.skip("GENWRIGHT_DATA_MIRROR names no mirror")
    manifest, dest = prepared(name, tmp_path, mirror=mirror)
    assert manifest.count == count
    if train_mean:
        assert manifest.splits["test"] == 10_000
        np.testing.assert_allclose(manifest.mean, train_mean, atol=0.3)
    assert len(open_split(dest, "train").labels) == manifest.splits["train"]  # type: ignore[arg-type]


def bad_sources(tmp_path: Path, folder: Path) -> dict[str, tuple[object, str]]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes(next(folder.rglob("*.png")).read_bytes())
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "cut.tar").write_bytes(as_tar("")(folder, tmp_path).read_bytes()[:-30_000])
    (tmp_path / "cut.tar.gz").write_bytes(as_tar("gz")(folder, tmp_path).read_bytes()[:-3_000])
    (tmp_path / "cut.zip").write_bytes(as_zip(folder, tmp_path).read_bytes()[:-500])
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 no")
    (tmp_path / "cut.npz").write_bytes(as_npz(folder, tmp_path).read_bytes()[:-100])
    np.savez(tmp_path / "floats.npz", images=np.zeros((40, 4, 4)))
    np.savez(tmp_path / "objects.npz", images=np.array([{}] * 40))
    np.savez(tmp_path / "labels.npz", images=np.zeros((40, 4, 4), np.uint8), labels=np.zeros(39, int))
    np.savez(tmp_path / "other.npz", x=np.zeros((40, 4, 4), np.uint8))
    np.savez(tmp_path / "fortran.npz", images=np.asfortranarray(np.ones((40, 4, 5), np.uint8)))
    for name, member in (("up.tar", "../../evil.png"), ("absolute.tar", "/etc/evil.png")):
        with tarfile.open(tmp_path / name, "w") as archive:
            info = tarfile.TarInfo(member)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as archive:
        archive.writestr("a/../../evil.png", b"evil")
    splits = tmp_path / "splits"
    for name in ("train", "test"):
        (splits / name).mkdir(parents=True)
        for path in sorted(folder.rglob("*.png"))[:20]:
            (splits / name / path.name).write_bytes(path.read_bytes())
    both = tmp_path / "both"
    (both / "class").mkdir(parents=True)
    for path in sorted(folder.rglob("*.png"))[:40]:
        (both / path.name).write_bytes(path.read_bytes())
        (both / "class" / path.name).write_bytes(path.read_bytes())
    names = {
        "missing": "no such source, file or folder; allowed: cifar10, emoji, mnist, uci-digits, or the path of an npz",
        "mnistt": "no such source",
        "empty": "no pictures in it",
        "one": "1 items; allowed: 64 or more",
        "text.txt": "not a kind of data",
        "cut.tar": "damaged tar",
        "cut.tar.gz": "damaged tar",
        "cut.zip": "damaged zip",
        "no.zip": "damaged zip",
        "cut.npz": "not a usable npz",
        "floats.npz": "images are float64",
        "objects.npz": "images are object",
        "labels.npz": r"labels are int64 \[39\] for 40 images",
        "other.npz": "it holds x.npy",
        "fortran.npz": "Fortran order",
        "up.tar": "points outside",
        "absolute.tar": "points outside",
        "up.zip": "points outside",
        "splits": "look like splits",
        "both": "both in the top folder",
    }
    return {name: (tmp_path / name, text) for name, text in names.items()}


@pytest.mark.filterwarnings("error")
def test_bad_input_is_one_line_and_leaves_nothing(image_folder: Path, tmp_path: Path) -> None:
    for source, text in bad_sources(tmp_path, image_folder).values():
        with pytest.raises(DataError, match=text) as caught:
            prepare(source, tmp_path / "out" / "set", cache=tmp_path / "cache", progress=False)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert str(source) in str(caught.value)
        assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    assert not list(tmp_path.rglob("evil*"))


def test_the_public_names_are_the_ones_in_params() -> None:
    import yaml

    params = yaml.safe_load((Path(__file__).resolve().parents[2] / "params.yaml").read_text())
    assert {entry["source"] for entry in params["datasets"].values()} == set(named_sources())
