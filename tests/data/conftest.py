"""Real small data for every test of the data part."""

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.manifest import Manifest, Report
from components.data.prepare import prepare
from components.data.shards import open_split, verify
from components.data.splits import SPLITS, Split
from components.data.words import lines

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """64 real pictures: UCI digits as encoded PNG, 8x8 grey."""
    from sklearn.datasets import load_digits

    return [png(np.uint8(np.minimum(image * 16, 255))) for image in load_digits().images[:64]]


def png(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def blocks(seed: int, height: int = 16, width: int = 16, channels: int = 3) -> np.ndarray:
    """A picture of 4x4 coloured blocks, uint8 [H, W, C]: another for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, channels))
    return np.kron(coarse, np.ones((-(-height // 4), -(-width // 4), 1)))[:height, :width].astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """uint8 [H, W] or [H, W, C] as a file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by their names."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@dataclass(frozen=True)
class Prepared:
    """A prepared folder and all that was said of it."""

    folder: Path
    manifest: Manifest
    report: Report

    @property
    def words(self) -> str:
        """What the command prints."""
        return "\n".join(lines(self.manifest, self.report, to=self.folder, sheet=Path("sheet.png")))

    def split(self, name: Split) -> np.ndarray:
        part = open_split(self.folder, name)
        return part.take(np.arange(len(part)))

    @property
    def items(self) -> np.ndarray:
        """All items, uint8 [N, H, W, C]."""
        return np.concatenate([self.split(name) for name in SPLITS])

    @property
    def by_class(self) -> dict[str, set[bytes]]:
        """Class -> its pictures."""
        found: dict[str, set[bytes]] = {name: set() for name in self.manifest.classes}
        for name in SPLITS:
            part = open_split(self.folder, name)
            for image, label in zip(part.take(np.arange(len(part))), part.labels, strict=True):
                found[self.manifest.classes[label]].add(image.tobytes())
        return found

    @property
    def left_alone(self) -> dict[str, int]:
        return self.report.left_alone


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Prepared]:
    """Prepares a source; what was written holds together and can be read as strict JSON."""

    def make(source: Path, **options: object) -> Prepared:
        reports: list[Report] = []
        folder = tmp_path / "made" / "set"
        manifest = prepare(source, folder, cache=tmp_path / "cache", progress=False, told=reports.append, **options)  # type: ignore[arg-type]
        assert verify(folder) == manifest
        (folder / "dataset.json").read_text("utf-8").encode("utf-8", "strict")
        found = Prepared(folder, manifest, reports[0])
        found.words.encode("utf-8", "strict")
        assert Image.open(tmp_path / "cache" / "sheets" / "set.png").size[0] >= 360
        return found

    return make


@pytest.fixture
def image_folder(tmp_path: Path, pictures: list[bytes]) -> Path:
    """64 pictures in two class folders."""
    folder = tmp_path / "pictures"
    for at, data in enumerate(pictures):
        place = folder / ("even" if at % 2 == 0 else "odd") / f"{at:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m components.data` in a process of its own."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "components.data", *map(str, arguments)]
        return subprocess.run(command, cwd=options.pop("cwd", ROOT), capture_output=True, text=True, check=False, **options)

    return run
