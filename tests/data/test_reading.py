"""A user's own images come in the shape that a model takes, in their order, and are refused one by one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from specs import image_item

from components.core.errors import DataError
from components.data.reading import read_items

GREY = image_item(8, 8, 1)


def draw(path: Path, *, side: int | tuple[int, int] = 8, mode: str = "L", shade: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = (side, side) if isinstance(side, int) else side
    Image.new(mode, (width, height), shade if mode == "L" else (shade,) * 3).save(path)
    return path


def test_one_picture_is_read(tmp_path: Path) -> None:
    read = read_items(draw(tmp_path / "a.png", side=(20, 30), mode="RGB"), item=GREY, at_most=5)
    assert (read.images.shape, len(read), read.labels, read.names) == ((1, 8, 8, 1), 1, None, ("a.png",))
    assert (read.images == 200).all()
    assert read.images.flags.writeable  # torch wants it so
    assert read_items(tmp_path / "a.png", item=image_item(8, 8, 3), at_most=5).images.shape == (1, 8, 8, 3)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for number in range(5):
        draw(tmp_path / "f" / f"{number}.png", shade=10 * number)
    read = read_items(tmp_path / "f", item=GREY, at_most=4)
    assert read.names == ("0.png", "1.png", "2.png", "3.png")
    assert read.take(np.array([2, 0]))[:, 0, 0, 0].tolist() == [20, 0]


def test_classes_are_found_among_those_of_the_model(tmp_path: Path) -> None:
    for name in ("dog", "ant"):
        draw(tmp_path / "f" / name / "1.png")
    read = read_items(tmp_path / "f", item=GREY, classes=("cat", "dog", "ant"), at_most=9)
    assert read.labels.tolist() == [2, 1]
    assert read_items(tmp_path / "f", item=GREY, at_most=9).labels is None
    with pytest.raises(DataError, match=r"ant/1.png is of class 'ant'; allowed: cat, dog"):
        read_items(tmp_path / "f", item=GREY, classes=("cat", "dog"), at_most=9)
    draw(tmp_path / "one" / "1.png")
    assert read_items(tmp_path / "one", item=GREY, classes=("cat", "dog"), at_most=9).labels is None


def test_an_npz_is_read(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 1, 0, 1, 0]))
    read = read_items(tmp_path / "a.npz", item=GREY, classes=("0", "1"), at_most=4)
    assert np.array_equal(read.images[..., 0], images[:4])
    assert read.labels.tolist() == [0, 1, 1, 0]
    assert read_items(tmp_path / "a.npz", item=image_item(16, 16, 3), at_most=4).images.shape == (4, 16, 16, 3)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "f" / "a.png")
    (tmp_path / "f" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"f: b.png: undecodable"):
        read_items(tmp_path / "f", item=GREY, at_most=9)
    assert len(read_items(tmp_path / "f", item=GREY, at_most=1)) == 1
    with pytest.raises(DataError, match=r"a.png: size: 8x8x1, not 8x9x1"):
        read_items(tmp_path / "f", item=image_item(8, 9, 1), at_most=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no images in it"):
        read_items(tmp_path / "empty", item=GREY, at_most=9)
    with pytest.raises(DataError, match="mnist: no such source"):
        read_items(Path("mnist"), item=GREY, at_most=9)
