"""The README's first command does not depend on the clock: beside busy processes it makes the same model, only later."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BUSY = 3  # more than the two cores that the demo takes


@contextmanager
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def demo(home: Path) -> tuple[bytes, bytes]:
    """The weights that `make demo` trains in an empty home, and the picture that its server draws."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_", "OMP_"))}
    ran = subprocess.run(
        ["infra/demo.sh"], cwd=REPOSITORY, env=kept | {"GENWRIGHT_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Gates: pass" in ran.stdout
    told = subprocess.run(
        [sys.executable, "-m", "flows", "explain", "digits", "--json"], cwd=REPOSITORY, env=kept | {"GENWRIGHT_HOME": str(home)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    scores = {name: each["value"] for name, each in json.loads(told.stdout)["scorecard"]["metrics"].items()}
    assert scores["fd"] <= 1.8
    assert scores["confident_share"] >= 0.72
    assert scores["class_share_min"] >= 0.05
    (weights,) = home.glob("work/digits/*/train/best/*/weights.safetensors")
    return weights.read_bytes(), (REPOSITORY / "out" / "digits.png").read_bytes()


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_busy_neighbours_change_no_byte_of_the_demo(tmp_path: Path) -> None:
    idle = demo(tmp_path / "idle")
    with ExitStack() as stack:
        for _ in range(BUSY):
            stack.enter_context(busy_process())
        beside = demo(tmp_path / "beside")
    assert beside == idle
