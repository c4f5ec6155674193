"""How long a person waits for a sign of life: `produce` in a new home, on a terminal and in a pipe.

The promises are 5 s to the first line and 10 s between movements on a terminal, 30 s between lines in a pipe. They are for an
idle machine; a busy one, as in CI, is given some more.
"""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("terminal", "first_s", "gap_s"),
    [
        pytest.param(True, 15.0, 10.0, id="terminal", marks=pytest.mark.slow),
        pytest.param(False, 45.0, 35.0, id="pipe", marks=pytest.mark.nightly),
    ],
)
def test_produce_is_never_silent(
    raw_road: Any, road_in: type[Any], tmp_path: Path, terminal: bool, first_s: float, gap_s: float
) -> None:
    (tmp_path / "road").mkdir()
    (tmp_path / "road" / "data").symlink_to(raw_road.folder / "data")
    road = road_in(tmp_path / "road")
    brief = raw_road.write(raw_road.brief(name="silence"), "silence.yaml")
    reading, writing = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "flows", "produce", str(brief)]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=raw_road.folder, env=road.variables(TERM="xterm"), stdout=writing, stderr=writing) as ran:
        os.close(writing)
        moments, text = _read(reading)
    assert ran.returncode == 0, text[-3000:]
    gaps = [after - before for before, after in zip([began, *moments], moments, strict=False)]
    assert gaps[0] < first_s
    assert max(gaps) < gap_s, text[-3000:]
    for stage in ("Training: about", "Export", "Proof"):
        assert stage in text


def _read(reading: int) -> tuple[list[float], str]:
    """When something came, and all of it."""
    moments, text = [], b""
    while select.select([reading], [], [], 300)[0]:
        try:
            piece = os.read(reading, 65536)
        except OSError:  # a terminal whose other side is closed
            piece = b""
        if not piece:
            break
        moments.append(time.monotonic())
        text += piece
    os.close(reading)
    return moments, text.decode(errors="replace")
