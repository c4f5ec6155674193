"""Preparation: the same bytes every time, whole or not at all, in bounded memory, with what is unusable set aside."""

import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.core.errors import DataError, SettingsError
from components.core.modality import ItemReader
from components.core.proof_items import BLOCK
from components.data.prepare import prepare
from components.data.shards import open_split, verify
from components.data.sources.item import Item, Survey
from components.data.splits import SPLITS, split_of

Run = Callable[..., subprocess.CompletedProcess[str]]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def noise_png(seed: int, height: int, width: int, mode: str = "RGB") -> bytes:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if bands == 1 else pixels, mode).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Counted:
    """Pictures made when they are asked for: as many as one likes, none of them held."""

    count: int
    side: int = 8
    kind: str = "counted"
    where: str = "counted"
    modality: str = "image"
    locked: bool = False

    def survey(self, reader: ItemReader, advance: Callable[[int], None]) -> Survey:
        reader.look(self._pixels(0))
        return Survey(count=self.count)

    def items(self, reader: ItemReader) -> Iterator[Item]:
        for at in range(self.count):
            yield Item(name=str(at), read=partial(self._pixels, at))

    def _pixels(self, at: int) -> np.ndarray:
        return np.full((self.side, self.side, 3), at % 251, np.uint8)


# Determinism and the split


def test_twice_gives_the_same_bytes_wherever_the_source_lies(image_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "other name"
    moved.parent.mkdir()
    for path in image_folder.rglob("*.png"):
        to = moved / path.relative_to(image_folder)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    for name, source in (("a", image_folder), ("b", moved)):
        prepare(source, tmp_path / name, side=12, seed=3, cache=tmp_path / name / "c", progress=False)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), block=st.integers(0, 10**9))
def test_every_ten_items_give_one_to_validation_and_one_to_test(seed: int, block: int) -> None:
    indices = range(block * 10, block * 10 + 10)
    assert Counter(split_of(at, seed=seed) for at in indices) == {"train": 8, "validation": 1, "test": 1}
    official = Counter(split_of(at, seed=seed, official="train") for at in indices)
    assert official == {"train": 9, "validation": 1}
    assert {split_of(at, seed=seed, official="test") for at in indices} == {"test"}


def test_the_split_depends_on_the_seed_and_is_stable_when_items_are_added() -> None:
    first = [split_of(at, seed=0) for at in range(500)]
    assert first == [split_of(at, seed=0) for at in range(1000)][:500]
    assert first != [split_of(at, seed=1) for at in range(500)]
    places = Counter(at % 10 for at in range(10_000) if split_of(at, seed=0) == "test")
    assert min(places.values()) > 60  # each of the ten places about 100 times
    assert max(places.values()) < 140


def test_pictures_keep_their_split_when_others_are_added(image_folder: Path, tmp_path: Path) -> None:
    def splits(name: str) -> dict[bytes, str]:
        prepare(image_folder, tmp_path / name, cache=tmp_path / "c", progress=False)
        found = {}
        for split in SPLITS:
            part = open_split(tmp_path / name, split)
            found |= {image.tobytes(): split for image in part.take(np.arange(len(part)))}
        return found

    before = splits("a")
    (image_folder / "odd" / "zzz.png").write_bytes((image_folder / "odd" / "001.png").read_bytes()[:-1] + b"\x82")
    after = splits("b")
    assert {image: after[image] for image in before} == before


# Limits of memory and items


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            prepare(Counted(count, side=64), tmp_path / str(count), cache=tmp_path, progress=False, shard_bytes=1 << 20)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # imports
    small, large = peak(400), peak(2000)  # 5 MB and 25 MB of pixels
    assert large < small + (1 << 20)
    assert len(list((tmp_path / "2000").glob("train-*.npy"))) == 19  # ceil(1600 / 85)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(count=st.integers(BLOCK, 300), wanted=st.integers(BLOCK, 400))
def test_a_limit_is_kept_exactly_and_spread_evenly(count: int, wanted: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("spread")
    manifest = prepare(Counted(count), folder / "x", cache=folder, progress=False, limit_items=wanted)
    assert manifest.count == min(count, wanted)
    kept = sorted(int(image[0, 0, 0]) for split in SPLITS for image in _all(folder / "x", split))
    if count < 251:
        steps = {after - before for before, after in itertools.pairwise(kept)}
        assert max(steps) - min(steps) <= 1


def _all(folder: Path, split: str) -> np.ndarray:
    part = open_split(folder, split)  # type: ignore[arg-type]
    return part.take(np.arange(len(part)))


# Pictures


def test_pictures_of_any_size_become_squares(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for at in range(40):
        (folder / f"{at:02d}.png").write_bytes(noise_png(at, 20 + at, 60 - at))
    with pytest.raises(DataError, match=r"sizes differ: 20x60 and 21x59; give a side in pixels \(--side\)"):
        prepare(folder, tmp_path / "x", cache=tmp_path, progress=False)
    manifest = prepare(folder, tmp_path / "x", side=16, cache=tmp_path, progress=False)
    assert manifest.shape == (16, 16, 3)
    assert manifest.resizer == "pillow-bicubic-antialias-centre-square"
    image = Image.open(folder / "00.png")  # 60 wide, 20 high: the square begins at 20
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC, box=(20, 0, 40, 20)))
    assert any((expected == found).all() for split in SPLITS for found in _all(tmp_path / "x", split))


def test_modes_are_brought_to_one(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for at in range(34):
        (folder / f"g{at:02d}.png").write_bytes(noise_png(at, 4, 4, "L"))
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369  # 0 .. 65535
    Image.fromarray(deep).save(folder / "deep.png")
    assert prepare(folder, tmp_path / "grey", cache=tmp_path, progress=False).shape == (4, 4, 1)
    levels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 17
    assert any((levels == found).all() for split in SPLITS for found in _all(tmp_path / "grey", split))
    clear = np.zeros((4, 4, 4), np.uint8)  # black, but fully transparent
    Image.fromarray(clear, "RGBA").save(folder / "clear.png")
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).convert("P").save(folder / "palette.png")
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).convert("CMYK").save(folder / "cmyk.jpg", quality=100)
    assert prepare(folder, tmp_path / "colour", cache=tmp_path, progress=False).shape == (4, 4, 3)
    found = [image for split in SPLITS for image in _all(tmp_path / "colour", split)]
    assert any((image == 255).all() for image in found)
    assert any((image == levels).all() for image in found), "grey ones are repeated over the channels"


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for at in range(40):
        image = Image.new("RGB", (16, 8), "black")
        image.paste("white", (0, 0, 8, 8))
        image.paste((0, 0, at), (15, 0, 16, 1))
        exif = Image.Exif()
        exif[0x0112] = 6  # rotate by 90 degrees clockwise to see it upright
        image.save(folder / f"{at}.jpg", exif=exif, quality=100)
    assert prepare(folder, tmp_path / "x", cache=tmp_path, progress=False).shape == (16, 8, 3)
    image = _all(tmp_path / "x", "train")[0]
    assert image[:6].min() > 200, "the left half is now the top"
    assert image[10:].max() < 55


# Quarantine


def spoil(folder: Path) -> None:
    """Four unusable pictures beside the 64 good ones."""
    (folder / "odd" / "text.png").write_bytes(b"not a picture")
    (folder / "odd" / "cut.png").write_bytes((folder / "odd" / "001.png").read_bytes()[:60])
    (folder / "odd" / "loop.png").symlink_to("loop.png")
    Image.new("1", (10_000, 10_000)).save(folder / "odd" / "bomb.png")


@pytest.mark.filterwarnings("error")
def test_unusable_pictures_are_set_aside_and_named(image_folder: Path, tmp_path: Path) -> None:
    clean = prepare(image_folder, tmp_path / "clean", cache=tmp_path, progress=False)
    spoil(image_folder)
    manifest = prepare(image_folder, tmp_path / "x", quarantine_max=0.1, cache=tmp_path, progress=False)
    assert (manifest.count, manifest.shape, manifest.classes) == (64, clean.shape, clean.classes)
    assert manifest.quarantine.reasons == {"oversized": 1, "truncated": 1, "undecodable": 1, "unreadable": 1}
    report = [json.loads(line) for line in (tmp_path / "x" / "quarantine.jsonl").read_text().splitlines()]
    assert {line["item"] for line in report} == {f"odd/{name}.png" for name in ("text", "cut", "loop", "bomb")}


def test_too_many_of_them_end_it_and_leave_a_report(image_folder: Path, tmp_path: Path, cli: Run) -> None:
    spoil(image_folder)
    done = cli("prepare", image_folder, "--to", tmp_path / "out" / "x", "--cache", tmp_path / "c")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"{image_folder}: 4 of 68 items cannot be used" in line
    assert "allowed: 1.00%" in line
    report = tmp_path / "c" / "quarantine" / "x.jsonl"
    assert str(report) in line
    assert len(report.read_text().splitlines()) == 4
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_but_rubbish(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for at in range(40):
        (folder / f"{at}.png").write_bytes(b"rubbish")
    for side in (None, 8):
        with pytest.raises(DataError, match=r"none of the items|40 of 40 items"):
            prepare(folder, tmp_path / "x", side=side, cache=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"side": 0}, "side 0; allowed: 1 to 4096"),
        ({"seed": -1}, "seed -1"),
        ({"limit_items": 9}, "limit of 9 items; allowed: 10 or more, 64 or more for a proof"),
        ({"levels": 1}, "levels 1; allowed: 2 to"),
        ({"background": "whitish"}, "background 'whitish'; allowed: a colour"),
        ({"classes": "files"}, "classes 'files'; allowed: auto, folders, none"),
        ({"quarantine_max": 1.0}, "quarantine-max"),
    ],
)
def test_options_out_of_range(options: dict[str, object], text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        prepare("uci-digits", tmp_path / "x", cache=tmp_path, progress=False, **options)  # type: ignore[arg-type]


# Whole or not at all


def test_a_folder_of_something_else_is_never_replaced(image_folder: Path, tmp_path: Path) -> None:
    for dest in (image_folder, image_folder / "odd", tmp_path, image_folder / "new"):
        with pytest.raises(DataError, match=r"exists and is not a prepared dataset|lies in the source"):
            prepare(image_folder, dest, cache=tmp_path / "c", progress=False)
    with pytest.raises(DataError, match="exists and is not a prepared dataset"):
        prepare("uci-digits", image_folder, cache=tmp_path / "c", progress=False)
    assert len(list(image_folder.rglob("*.png"))) == 64
    first = prepare("uci-digits", tmp_path / "x", limit_items=40, cache=tmp_path / "c", progress=False)
    second = prepare("uci-digits", tmp_path / "x", limit_items=50, cache=tmp_path / "c", progress=False)
    assert verify(tmp_path / "x") == second != first


KILLED = """
import sys, time
from pathlib import Path
from components.data.prepare import prepare
from components.data.writing import ShardWriter
write = ShardWriter.add
def slow(self, pixels, label):
    write(self, pixels, label)
    if self.rows == 20:
        print("half way", flush=True)
        time.sleep(60)
ShardWriter.add = slow
prepare(sys.argv[1], Path(sys.argv[2]), cache=Path(sys.argv[3]), progress=False)
"""


@pytest.mark.parametrize("had_one", [False, True])
def test_killed_in_the_middle_nothing_half_written_stands(tmp_path: Path, image_folder: Path, had_one: bool) -> None:
    dest = tmp_path / "out" / "x"
    before = prepare("uci-digits", dest, limit_items=40, cache=tmp_path, progress=False) if had_one else None
    command = [sys.executable, "-c", KILLED, str(image_folder), str(dest), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == "half way\n"
    # While it lives, another run neither takes its folder away nor is disturbed by it.
    prepare("uci-digits", tmp_path / "out" / "y", limit_items=40, cache=tmp_path, progress=False)
    (partial_folder,) = (tmp_path / "out").glob(".x.partial-*")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if before is None:
        assert not dest.exists()
    else:
        assert verify(dest) == before
    after = prepare(image_folder, dest, cache=tmp_path, progress=False)
    assert verify(dest) == after
    assert not partial_folder.exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x", "y"]


def test_two_at_once_into_one_folder(image_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "components.data", "prepare", str(image_folder), "--to", str(tmp_path / "out" / "x")]
    both = [
        subprocess.Popen([*command, "--cache", str(tmp_path)], cwd=Path(__file__).resolve().parents[2], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    verify(tmp_path / "out" / "x")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_a_full_disk_is_one_line_and_leaves_nothing(image_folder: Path, tmp_path: Path, cli: Run) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        done = cli("prepare", image_folder, "--side", "64", "--to", small / "x", "--cache", tmp_path / "c")
        left = list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.returncode == 1
    assert done.stderr == f"{small / 'x'}: the disk is full; free some space and run the same command again\n"
    assert left == []


def test_a_file_size_limit_is_one_line_and_leaves_nothing(image_folder: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from components.data.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-B",
        "-c",
        code,
        "prepare",
        str(image_folder),
        "--side",
        "64",
        "--to",
        str(tmp_path / "out" / "x"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path / 'out' / 'x'}: File too large\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match=r"Not a directory|File exists") as caught:
        prepare("uci-digits", tmp_path / "file" / "x", cache=tmp_path, progress=False)
    assert "\n" not in str(caught.value)
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(SettingsError, match="not writable"):
            prepare("uci-digits", tmp_path / "locked" / "x", cache=tmp_path, progress=False)


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    """Of what lasts longer than a fifth of a second."""
    import pty

    for at in range(3000):
        folder = tmp_path / "many" / f"{at % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), at % 251, np.uint8)).save(folder / f"{at}.png")
    command = [sys.executable, "-m", "components.data", "prepare", str(tmp_path / "many"), "--cache", str(tmp_path)]
    leader, follower = pty.openpty()
    root = Path(__file__).resolve().parents[2]
    command += ["--to", str(tmp_path / "x")]
    environment = {**os.environ, "TERM": "xterm"}  # on a dumb terminal there is no bar to draw
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=follower, check=True)
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert "image-folder" in shown
    assert b"prepare" not in done.stdout


def test_the_command_reports_or_says_one_line(image_folder: Path, tmp_path: Path, cli: Run) -> None:
    done = cli("prepare", image_folder, "--to", tmp_path / "x", "--mirror", "", "--cache", "", "--limit", "40")
    first, *rest = done.stdout.splitlines()
    assert (done.returncode, first, done.stderr) == (
        0,
        f"{tmp_path / 'x'}: 40 items of 8x8x1 (32 train, 4 validation, 4 test)",
        "",
    )
    assert "  files      used 40, set aside 0, left alone 24 (24 beyond --limit)" in rest
    done = cli("prepare", "mnistt", "--to", tmp_path / "y")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@dataclass(frozen=True)
class Odd(Counted):
    """A source whose author slipped."""

    shape: tuple[int, ...] = (8, 8, 3)
    split: str | None = None
    gives: int | None = None

    def items(self, reader: ItemReader) -> Iterator[Item]:
        for at in range(self.gives or self.count):
            pixels = self._pixels(at) if at else np.zeros(self.shape, np.uint8)
            yield Item(name=str(at), read=partial(np.copy, pixels), split=self.split if not at else None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slip", "text"),
    [
        ({"shape": (8, 9, 3)}, r"1 of 100 items cannot be used, first 0 \(shape: uint8 8x9x3, where the set has uint8 8x8x3\)"),
        ({"shape": (8, 8)}, r"first 0 \(shape: uint8 8x8, where the set has uint8 8x8x3\)"),
        ({"split": "tset"}, "item 0: its source puts it into the split 'tset'; allowed: train, validation, test"),
        ({"gives": 101}, "counted: it gives 101 items, and its survey counted 100"),
        ({"gives": 90}, "counted: it gives 90 items, and its survey counted 100"),
    ],
)
def test_a_source_that_is_at_odds_with_itself_is_refused_in_one_line(slip: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        prepare(Odd(100, **slip), tmp_path / "x", cache=tmp_path / "c", progress=False, quarantine_max=0.005)
    assert not (tmp_path / "x").exists()
