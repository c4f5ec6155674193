"""No file of a source is lost in silence: each is used, set aside for a reason, or left alone by suffix or rule, and counted."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.errors import DataError
from components.data.prepare import prepare

from .conftest import Prepared, blocks, encoded, lay

Make = Callable[..., Prepared]


def pictures(count: int = 40, *, start: int = 0, kind: str = "PNG", name: str = "{:03}.png") -> dict[str, bytes]:
    return {name.format(at): encoded(blocks(start + at), kind) for at in range(count)}


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def accounts_for(made: Prepared, files: int, *, frames: int = 0) -> None:
    """Used, set aside and left alone are all the files there are; further frames of a file are counted besides."""
    left = sum(made.left_alone.values()) - made.left_alone.get("pages or frames after the first", 0)
    assert made.manifest.count + made.manifest.quarantine.count + left == files
    assert made.left_alone.get("pages or frames after the first", 0) == frames
    assert made.manifest.count == made.report.used


# Suffixes

HEIC = b"\0\0\0\x18ftypheic" + bytes(64)
OTHERS = {
    "phone": pictures(start=100, kind="JPEG", name="d{:03}.jfif") | {f"h{at}.heic": HEIC for at in range(40)},
    "old names": {
        f"p{at}.{suffix}": encoded(blocks(200 + at), "JPEG") for at, suffix in enumerate(["JPE", "pjpeg", "JFIF", "pjp"])
    },
    "systems": {".DS_Store": b"x", "Thumbs.db": b"x", "sub/._001.png": b"x", "__MACOSX/._a.png": b"x", "notes": b"x"},
    "cameras": {"raw/1.CR2": b"x", "raw/2.dng": b"x", "clip.mp4": b"x", "doc.pdf": b"x", "a.svg": b"<svg/>"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_suffix_is_used_or_counted(name: str, made: Make, tmp_path: Path) -> None:
    files = pictures(kind="JPEG", name="{:03}.jpg") | OTHERS[name]
    found = made(lay(tmp_path / "src", files))
    accounts_for(found, len(files))
    expected = {
        "phone": (80, {".heic": 40}, "left alone 40 (40 .heic: convert to PNG or JPEG first)"),
        "old names": (44, {}, "used 44, set aside 0, left alone 0"),
        "systems": (40, {"hidden files": 3, ".db": 1, "no suffix": 1}, "1 no suffix: give pictures their suffix"),
        "cameras": (40, {".cr2": 1, ".dng": 1, ".mp4": 1, ".pdf": 1, ".svg": 1}, "1 .svg: convert to PNG or JPEG first"),
    }
    used, left, words = expected[name]
    assert (found.manifest.count, found.left_alone) == (used, left)
    assert words in found.words
    assert found.manifest.report == found.report, "the account is part of the version"


@pytest.mark.parametrize("door", ["zip", "tar"])
def test_archives_account_for_their_members(door: str, made: Make, tmp_path: Path) -> None:
    files = pictures() | {"a.heic": HEIC, "b.HEIC": HEIC, ".hidden.png": b"x", "readme.txt": b"x", "broken.png": b"x"}
    source = zip_of(tmp_path / "x.zip", files) if door == "zip" else tar_of(tmp_path / "x.tar", files)
    found = made(source, quarantine_max=0.1)
    accounts_for(found, len(files))
    assert found.left_alone == {".heic": 2, "hidden files": 1, ".txt": 1}
    assert found.manifest.quarantine.reasons == {"undecodable": 1}
    assert "used 40, set aside 1 (1 undecodable), left alone 4" in found.words


def test_reasons_are_told_apart(made: Make, tmp_path: Path) -> None:
    whole = encoded(blocks(1, 64, 64), "JPEG")
    bad = {"cut.jpg": whole[: len(whole) // 2], "empty.png": b"", "text.gif": b"hello", "float.tiff": b""}
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(buffer, "TIFF")
    bad["float.tiff"] = buffer.getvalue()
    found = made(lay(tmp_path / "src", pictures() | bad), side=16, quarantine_max=0.2)
    assert found.manifest.quarantine.reasons == {"empty": 1, "truncated": 1, "undecodable": 1, "unsupported": 1}
    accounts_for(found, 44)


def test_what_a_limit_passes_over_is_counted(made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", pictures(50)), limit_items=20)
    assert found.left_alone == {"beyond --limit": 30}
    accounts_for(found, 50)


def test_a_folder_of_tars_and_pictures_is_refused(made: Make, tmp_path: Path) -> None:
    source = lay(tmp_path / "src", pictures())
    tar_of(source / "backup.tar", pictures())
    with pytest.raises(DataError, match=r"holds both tars \(backup.tar\) and pictures \(000.png\); name one"):
        made(source)


def test_links_inside_a_tar_are_counted(made: Make, tmp_path: Path) -> None:
    """GNU tar packs the second name of a hard-linked file as a link."""
    source = lay(tmp_path / "src", pictures())
    (source / "again.png").hardlink_to(source / "000.png")
    (source / "soft.png").symlink_to("000.png")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(source, "top")
    found = made(tmp_path / "x.tar")
    assert found.left_alone == {"links inside the archive": 2}
    assert "pack with --dereference" in found.words
    accounts_for(found, 42)


def test_an_empty_source_says_what_lies_there(made: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pictures in it, but 3 .heic: convert to PNG or JPEG first; allowed: .apng"):
        made(lay(tmp_path / "src", {f"{at}.heic": HEIC for at in range(3)}))


# Frames and pages


@pytest.mark.parametrize(("kind", "suffix"), [("GIF", "gif"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tiff")])
def test_the_first_frame_is_used_and_the_others_are_counted(kind: str, suffix: str, made: Make, tmp_path: Path) -> None:
    files = pictures()
    for at in range(5):
        frames = [Image.fromarray(blocks(1000 + 10 * at + frame)) for frame in range(4)]
        buffer = io.BytesIO()
        lossless = {"lossless": True} if kind == "WEBP" else {}
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **lossless)
        files[f"moving{at}.{suffix}"] = buffer.getvalue()
    found = made(lay(tmp_path / "src", files))
    accounts_for(found, 45, frames=15)
    assert "15 pages or frames after the first" in found.words
    if kind != "GIF":  # whose palette moves colours
        assert blocks(1000).tobytes() in {item.tobytes() for item in found.items}
    assert blocks(1001).tobytes() not in {item.tobytes() for item in found.items}


# Links to folders


def link_one(root: Path, own: Path) -> tuple[int, dict[str, int], tuple[str, ...]]:
    (own / "linked").symlink_to(root / "real" / "a")
    return 60, {}, ("linked", "own1", "own2")


def link_all(root: Path, own: Path) -> tuple[int, dict[str, int], tuple[str, ...]]:
    for name in ("own1", "own2"):
        (own / name).rename(root / name)
        (own / name).symlink_to(root / name)
    return 40, {}, ("own1", "own2")


def link_in_circles(root: Path, own: Path) -> tuple[int, dict[str, int], tuple[str, ...]]:
    (own / "own1" / "up").symlink_to(own)
    (own / "loop").symlink_to("loop")
    (root / "real" / "a" / "back").symlink_to(root / "real")
    (own / "linked").symlink_to(root / "real")
    return 80, {"links to folders that are read already": 2, "broken links": 1}, ("linked", "own1", "own2")


def link_twice(root: Path, own: Path) -> tuple[int, dict[str, int], tuple[str, ...]]:
    (own / "alias").symlink_to(own / "own1")  # sorts before the real name, which counts
    (own / "x").symlink_to(root / "real" / "a")
    (own / "y").symlink_to(root / "real" / "a")
    (own / "gone").symlink_to(root / "gone")
    return 60, {"links to folders that are read already": 2, "broken links": 1}, ("own1", "own2", "x")


@pytest.mark.parametrize("link", [link_one, link_all, link_in_circles, link_twice])
def test_linked_folders_are_followed_once(
    link: Callable[[Path, Path], tuple[int, dict[str, int], tuple[str, ...]]], made: Make, tmp_path: Path
) -> None:
    for at, name in enumerate(("a", "b")):
        lay(tmp_path / "real" / name, pictures(20, start=1000 * (at + 1)))
        lay(tmp_path / "src" / f"own{at + 1}", pictures(20, start=100 * at))
    used, left, classes = link(tmp_path, tmp_path / "src")
    found = made(tmp_path / "src")
    assert (found.manifest.count, found.left_alone, found.manifest.classes) == (used, left, classes)
    assert found.report.identical == 0


# Names in any encoding

LATIN = b"caf\xe9"


def names_folder(tmp_path: Path) -> Path:
    for at, data in enumerate(pictures().values()):
        lay(tmp_path / "src" / os.fsdecode(LATIN if at % 2 else b"tea"), {f"{at:03}.png": data})
    return tmp_path / "src"


def names_controls(tmp_path: Path) -> Path:
    names = ("\x1b[31mred", "two\nlines")
    files = {f"{names[at % 2]}/{at}\t.png": data for at, data in enumerate(pictures().values())}
    return lay(tmp_path / "src", files)


def names_tar(tmp_path: Path) -> Path:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for at, data in enumerate(pictures().values()):
            info = tarfile.TarInfo(f"{'café' if at % 2 else 'tea'}/{at}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def names_zip(tmp_path: Path) -> Path:
    """Bytes of UTF-8 with no flag that says so, as many tools write them."""
    path = zip_of(
        tmp_path / "x.zip", {f"{'cafXX' if at % 2 else 'tea'}/{at}.png": data for at, data in enumerate(pictures().values())}
    )
    path.write_bytes(path.read_bytes().replace(b"cafXX", "café".encode()))
    return path


@pytest.mark.parametrize(
    ("source", "classes"),
    [
        (names_folder, ("caf\\xe9", "tea")),
        (names_controls, ("\\x1b[31mred", "two\\nlines")),
        (names_tar, ("caf\\xe9", "tea")),
        (names_zip, ("café", "tea")),
    ],
)
def test_names_survive_in_any_encoding(
    source: Callable[[Path], Path], classes: tuple[str, ...], made: Make, tmp_path: Path
) -> None:
    found = made(source(tmp_path))
    assert found.manifest.classes == classes
    assert found.manifest.class_counts == (20, 20)
    assert all(name in found.words for name in classes)
    assert len(found.words.splitlines()) == len([line for line in found.words.split("\n") if line])


def test_a_bad_file_with_a_bad_name_is_reported(made: Make, tmp_path: Path) -> None:
    source = names_folder(tmp_path)
    lay(source, {os.fsdecode(LATIN + b"/b\xffd.png"): b"x"})
    found = made(source, quarantine_max=0.1)
    assert r'"item": "caf\\xe9/b\\xffd.png"' in (found.folder / "quarantine.jsonl").read_text("ascii")


def test_a_source_may_have_any_name_and_what_is_written_may_not(made: Make, tmp_path: Path) -> None:
    source = names_folder(tmp_path).rename(tmp_path / os.fsdecode(LATIN))
    assert made(source).manifest.count == 40
    with pytest.raises(DataError, match=r"caf\\xe9: its path is not UTF-8; name another folder"):
        prepare(source, tmp_path / "out" / os.fsdecode(LATIN), cache=tmp_path / "cache", progress=False)


def test_two_names_that_would_be_written_alike_are_refused(made: Make, tmp_path: Path) -> None:
    source = names_folder(tmp_path)
    lay(source / r"caf\xe9", pictures(5))
    with pytest.raises(DataError, match="two classes would both be written"):
        made(source)


# Zips made on Windows


@pytest.mark.parametrize(
    "members",
    [
        {f"{'cats' if at % 2 else 'dogs'}\\{at:03}.png": data for at, data in enumerate(pictures().values())},
        {"cats\\": b"", "dogs\\": b""}
        | {f"{'cats' if at % 2 else 'dogs'}\\deep\\{at}.png": data for at, data in enumerate(pictures().values())},
        {f"set/{'cats' if at % 2 else 'dogs'}\\{at}.png": data for at, data in enumerate(pictures().values())},
        {f".\\photos\\{'cats' if at % 2 else 'dogs'}\\{at} (1).png": data for at, data in enumerate(pictures().values())},
    ],
    ids=["flat", "folders", "mixed", "dot"],
)
def test_a_backslash_in_a_zip_is_a_separator(members: dict[str, bytes], made: Make, tmp_path: Path) -> None:
    found = made(zip_of(tmp_path / "x.zip", members))
    assert (found.manifest.classes, found.manifest.class_counts) == (("cats", "dogs"), (20, 20))
    assert found.left_alone == {}


@pytest.mark.parametrize(
    "name", ["..\\evil.png", "a\\..\\..\\evil.png", "C:\\evil.png", "\\evil.png", "/evil.png", "\\\\host\\x\\evil.png"]
)
def test_what_points_outside_is_refused(name: str, made: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="points outside the archive"):
        made(zip_of(tmp_path / "x.zip", pictures() | {name: b"x"}))
    with pytest.raises(DataError, match="points outside the archive"):
        made(tar_of(tmp_path / "x.tar", pictures() | {name: b"x"}))
