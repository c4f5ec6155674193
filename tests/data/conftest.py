"""Real small data for every test of the data part."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
