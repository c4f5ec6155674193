"""Bit depths, transparency, orientation and sameness: what levels become, and what is said before anything is trained."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from specs import image_item

from components.core.errors import DataError
from components.data.reading import read_items

from .conftest import Prepared, blocks, encoded, lay

Make = Callable[..., Prepared]


def deep(seed: int, bits: int, channels: int = 1) -> np.ndarray:
    """Blocks of `bits` bits, uint16 [H, W, C]; over forty seeds nearly every level up to the largest."""
    coarse = np.random.default_rng(seed).integers(0, 1 << bits, (4, 4, channels))
    return np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint16)


def expected(levels: np.ndarray, count: int) -> np.ndarray:
    return ((levels.astype(np.int64) * 255 + (count - 1) // 2) // (count - 1)).astype(np.uint8)


def png16(levels: np.ndarray) -> bytes:
    """A PNG of sixteen bits a channel, colour or with transparency, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff16(levels: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF of sixteen bits a channel, in either byte order."""
    height, width, channels = levels.shape
    data = levels.astype(f"{order}u2").tobytes()
    tags = {256: width, 257: height, 258: 0, 259: 1, 262: 2 if channels == 3 else 1, 273: 0, 277: channels, 278: height}
    tags[279] = len(data)
    bits_at = 8 + 2 + 12 * len(tags) + 4
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, value in tags.items():
        if tag == 258 and channels > 1:
            out += struct.pack(f"{order}HHII", tag, 3, channels, bits_at)
        elif tag in (273, 279):
            out += struct.pack(f"{order}HHII", tag, 4, 1, bits_at + len(bits) if tag == 273 else value)
        else:
            out += struct.pack(f"{order}HHIHH", tag, 3, 1, 16 if tag == 258 else value, 0)
    return out + struct.pack(f"{order}I", 0) + bits + data


# Bit depths


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("form", ["png", "tiff", "colour png", "colour tiff", "colour tiff of a Mac"])
def test_the_depth_is_the_smallest_usual_one_that_holds_the_set(bits: int, form: str, made: Make, tmp_path: Path) -> None:
    channels = 3 if "colour" in form else 1
    arrays = [deep(at, bits, channels) for at in range(40)]
    arrays[0][0, 0] = (1 << bits) - 1
    write = {
        "png": encoded,
        "tiff": lambda levels: encoded(levels, "TIFF"),
        "colour png": png16,
        "colour tiff": lambda levels: tiff16(levels, "<"),
        "colour tiff of a Mac": lambda levels: tiff16(levels, ">"),
    }[form]
    suffix = "tiff" if "tiff" in form else "png"
    found = made(lay(tmp_path / "src", {f"{at}.{suffix}": write(levels) for at, levels in enumerate(arrays)}))
    assert {item.tobytes() for item in found.items} == {expected(levels, 1 << bits).tobytes() for levels in arrays}
    assert found.report.levels == 1 << bits
    assert f"the {1 << bits:,} levels ({bits} bits) of a channel become 0 to 255 (--levels)" in found.words
    assert "dark" not in found.words


def test_levels_that_are_asked_for_win(made: Make, tmp_path: Path) -> None:
    arrays = [deep(at, 9) for at in range(40)]  # dim scans of twelve bits: nothing shows that
    source = lay(tmp_path / "src", {f"{at}.png": encoded(levels) for at, levels in enumerate(arrays)})
    assert made(source).report.levels == 1024
    found = made(source, levels=4096)
    assert {item.tobytes() for item in found.items} == {expected(levels, 4096).tobytes() for levels in arrays}
    assert "the items are dark: a mean of" in found.words
    with pytest.raises(DataError, match=r"beyond-levels: a level of \d+, where there are 256 \(0 to 255\)"):
        made(source, levels=256)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_dead_pixel_is_told_with_the_depth_of_all_others(bits: int, made: Make, tmp_path: Path) -> None:
    arrays = [deep(at, bits) for at in range(80)]
    arrays[7][0, 0] = 65535
    source = lay(tmp_path / "src", {f"{at}.png": encoded(levels) for at, levels in enumerate(arrays)})
    found = made(source)
    assert (found.report.levels, found.report.levels_usual) == (65536, 1 << bits)
    assert f"with --levels {1 << bits} pictures that have such pixels are set aside (--quarantine-max)" in found.words
    assert "--levels 256" not in found.words
    again = made(source, levels=1 << bits, quarantine_max=0.02)
    assert (again.manifest.count, again.report.levels_usual) == (79, None)
    assert "a few pixels" not in again.words


def test_the_advice_for_dark_scans_counts_their_own_levels(made: Make, tmp_path: Path) -> None:
    source = lay(tmp_path / "src", {f"{at}.png": encoded(deep(at, 7) * 2) for at in range(40)})
    assert "for example --levels 256" in made(source, levels=4096).words
    white = {f"{at}.png": encoded(np.where(np.arange(256).reshape(16, 16) == at, 255, 0).astype(np.uint8)) for at in range(40)}
    assert "the items are dark: a mean of 1 and at most 255 of 255; look at the sheet" in made(lay(tmp_path / "w", white)).words


def test_pictures_of_eight_bits_may_have_fewer_levels(made: Make, tmp_path: Path) -> None:
    """Digits of seventeen levels saved as they are come out nearly black: that is said, with the remedy."""
    arrays = [blocks(at, channels=1) // 16 for at in range(40)]
    source = lay(tmp_path / "src", {f"{at}.png": encoded(levels) for at, levels in enumerate(arrays)})
    assert (
        "and at most 15 of 255; if their white is darker than 255, say how many levels they have, for example --levels 16"
        in made(source).words
    )
    found = made(source, levels=16)
    assert {item.tobytes() for item in found.items} == {expected(levels, 16).tobytes() for levels in arrays}
    assert "dark" not in found.words
    np.savez(tmp_path / "x.npz", images=np.stack(arrays))
    assert {item.tobytes() for item in made(tmp_path / "x.npz", levels=16).items} == {item.tobytes() for item in found.items}


def test_one_bit_and_transparency_of_sixteen(made: Make, tmp_path: Path) -> None:
    files = {f"{at}.png": encoded(blocks(at, channels=1)[..., 0] > 127) for at in range(40)}
    assert set(np.unique(made(lay(tmp_path / "one", files)).items)) == {0, 255}
    arrays = [np.concatenate([deep(at, 12, 3), np.full((16, 16, 1), 65535, np.uint16)], 2) for at in range(40)]
    found = made(lay(tmp_path / "alpha", {f"{at}.png": png16(levels) for at, levels in enumerate(arrays)}))
    assert {item.tobytes() for item in found.items} == {expected(levels[..., :3], 4096).tobytes() for levels in arrays}


def test_a_users_own_scan_is_read_by_the_same_rule(tmp_path: Path) -> None:
    levels = deep(1, 12)
    levels[0, 0] = 4095
    lay(tmp_path, {"a.png": encoded(levels)})
    read = read_items(tmp_path / "a.png", item=image_item(16, 16, 1), at_most=1)
    assert (read.images[0] == expected(levels, 4096)).all()


# Transparency


def icon(at: int, colour: int, mode: str = "RGBA") -> bytes:
    alpha = Image.fromarray(blocks(at, channels=1)[..., 0])
    image = Image.new("RGBA", (16, 16), (colour, colour, colour))
    image.putalpha(alpha)
    return encoded(np.asarray(image.convert("LA") if mode == "LA" else image))


def indexed(at: int, colour: int) -> bytes:
    """A GIF whose one colour is cut out of a transparent ground."""
    image = Image.fromarray((blocks(at, channels=1)[..., 0] > 127).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, colour, colour, colour])
    buffer = io.BytesIO()
    image.save(buffer, "GIF", transparency=0)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("one", "suffix", "ground", "other"),
    [
        (lambda at: icon(at, 255), "png", "white", "black"),
        (lambda at: icon(at, 0), "png", "black", "white"),
        (lambda at: icon(at, 255, "LA"), "png", "white", "black"),
        (lambda at: indexed(at, 255), "gif", "white", "black"),
        (lambda at: icon(at, 128), "png", "#808080", "black"),
    ],
    ids=["white", "black", "grey with alpha", "indexed", "grey"],
)
def test_pictures_that_vanish_on_their_ground_are_refused_with_the_cause(
    one: Callable[[int], bytes], suffix: str, ground: str, other: str, made: Make, tmp_path: Path
) -> None:
    source = lay(tmp_path / "src", {f"{at}.{suffix}": one(at) for at in range(60)})
    with pytest.raises(
        DataError, match=f"all 60 items come out the same, .* laid over {ground}; .* --background, for example {other}"
    ):
        made(source, background=ground)
    found = made(source, background=other)
    assert (found.report.flat, found.report.transparent) == (0, 60)
    assert f"60 pictures with transparency are laid over {other} (--background)" in found.words


def test_some_that_vanish_are_warned_of(made: Make, tmp_path: Path) -> None:
    files = {f"{at}.png": icon(at, 255 if at % 4 == 0 else 0) for at in range(80)}
    found = made(lay(tmp_path / "src", files))
    assert (found.report.flat, found.report.flat_by_ground) == (20, 20)
    assert "20 of 80 items (25 %) are one flat colour; 20 of them are transparent pictures that vanish on white" in found.words


# Orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_kind_is_turned_upright(kind: str, orientation: int, made: Make, tmp_path: Path) -> None:
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:12, :8] = 255  # top left is white
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    undo |= {6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    files = {}
    for at in range(12):
        marked = upright.copy()
        marked[-1, -1] = 20 * at
        files[f"{at:02}.{kind.lower()}"] = encoded(np.ascontiguousarray(undo[orientation](marked)), kind, exif=exif)
    found = made(lay(tmp_path / "src", files))
    assert found.manifest.shape == (24, 16, 3)
    for item in found.items:
        assert item[2:10, 2:6].min() > 200
        assert item[14:22, 2:14].max() < 60


# Sameness


def same_npz(folder: Path) -> Path:
    folder.mkdir()
    np.savez(folder / "x.npz", images=np.zeros((200, 8, 8), np.uint8))
    return folder / "x.npz"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            lambda to: lay(to, {f"{at}.png": encoded(np.full((16, 16), 127, np.uint8)) for at in range(200)}),
            "are the same, one flat colour",
        ),
        (
            lambda to: lay(to, {f"{at}.jpg": encoded(np.full((9, 7, 3), 200, np.uint8), "JPEG") for at in range(100)}),
            "one flat colour",
        ),
        (same_npz, "are the same, one flat colour"),
        (lambda to: lay(to, {f"{at}.png": encoded(blocks(1)) for at in range(200)}), "all 200 items are the same picture"),
        (
            lambda to: lay(
                to, {f"{at}.{('png', 'bmp')[at % 2]}": encoded(blocks(1), ("PNG", "BMP")[at % 2]) for at in range(64)}
            ),
            "same picture",
        ),
        (
            lambda to: lay(to, {f"{'ab'[at % 2]}/{at}.png": encoded(blocks(1), compress_level=at % 9) for at in range(64)}),
            "same picture",
        ),
    ],
    ids=["grey", "colour", "npz", "one photo", "two formats", "two classes"],
)
def test_a_set_of_one_item_is_refused(source: Callable[[Path], Path], text: str, made: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text) as caught:
        made(source(tmp_path / "src"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made" / "set").exists()


@pytest.mark.parametrize(("pictures", "share"), [(2, 0.98), (50, 0.5), (92, 0.08), (97, 0.03)])
def test_copies_are_counted_and_warned_of(pictures: int, share: float, made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", {f"{at:03}.png": encoded(blocks(at % pictures)) for at in range(100)}))
    assert found.report.duplicates == pytest.approx(share)
    train = {item.tobytes() for item in found.split("train")}
    held_out = [item.tobytes() for name in ("validation", "test") for item in found.split(name)]
    assert found.report.shared == sum(item in train for item in held_out)
    assert f"{100 - pictures} of 100 items ({share:.0%})".replace("%", " %") in found.words
    assert ("a generator learns what is repeated by heart" in found.words) == (share > 0.05)


def test_flat_items_of_many_shades_are_warned_of(made: Make, tmp_path: Path) -> None:
    found = made(lay(tmp_path / "src", {f"{at}.png": encoded(np.full((8, 8), 4 * at, np.uint8)) for at in range(60)}))
    assert "60 of 60 items (100 %) are one flat colour; look at the sheet" in found.words
