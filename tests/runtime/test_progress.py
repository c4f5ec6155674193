"""What a person sees of long work: a row that moves on a terminal, a line now and then elsewhere, nothing of what is quick."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from components.runtime.screen import Stage, seconds

WORK = """
import time
from components.runtime import screen
from components.runtime.progress import announce, bar, reported, stage

screen.BEAT_S = 1.0
with stage("Quick", about_s=1):
    pass
announce("Training", about_s=90, basis="the budget")
with stage("Starting", until_next=True, quiet_s=30.0):
    with stage("Export", about_s=3, basis="measured here before") as shown:
        with reported("Proof") as report:
            report("samples", 3, 8)
        time.sleep(2.6)
        shown.say("  a line that stays")
    print("answer", flush=True)
"""


def run_in_a_pipe() -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True, timeout=60)


def test_away_from_a_terminal_a_promise_and_a_beat() -> None:
    ran = run_in_a_pipe()
    assert ran.stdout == "answer\n"
    training, export, *beats, line = ran.stderr.splitlines()
    assert training == "Training: about 90 s (the budget)"
    assert export == "Export: about 3 s (measured here before)"
    assert 1 <= len(beats) <= 3
    for beat in beats:
        assert beat.startswith("Export: 3 of 8, ")
        assert beat.endswith(" s of about 3 s (measured here before), samples")
    assert line == "  a line that stays"


def test_on_a_terminal_a_row_moves_and_leaves_nothing_but_the_lines() -> None:
    shown, screen = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", WORK], stdout=screen, stderr=screen, env=environment, close_fds=True) as running:
        os.close(screen)
        text, gaps = _read(shown)
    assert running.returncode == 0
    assert max(gaps[1:]) < 2.0, "it moves, also where the machine is busy"
    assert len(gaps) > 6
    assert "Export" in text
    assert "3 of 8, " in text
    assert " of about 3 s" in text
    assert "Quick" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is back
    last = text.rpartition("\x1b[2K")[2]  # after the row was wiped
    assert last.split() == ["answer"]


def _read(terminal: int) -> tuple[str, list[float]]:
    """All that was shown, and the seconds between each piece of it and the one before."""
    text, gaps, last_s = b"", [], time.monotonic()
    while select.select([terminal], [], [], 60)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other side is closed
            piece = b""
        if not piece:
            break
        text += piece
        gaps.append(time.monotonic() - last_s)
        last_s = time.monotonic()
    os.close(terminal)
    return text.decode(), gaps


@pytest.mark.parametrize(
    ("stage", "far"),
    [
        (Stage("a"), "0 s"),
        (Stage("a", about_s=90, basis="estimated"), "0 s of about 90 s (estimated)"),
        (Stage("a", total=8, done=2, note="batch of 7"), "2 of 8, 0 s, batch of 7"),
        (Stage("a", unit="share", total=1.0, done=0.456), "46%, 0 s"),
        (Stage("a", unit="bytes", total=2_500_000, done=1_000_000), "1.0 of 2.5 MB, 0 s"),
    ],
)
def test_how_far_it_is(stage: Stage, far: str) -> None:
    stage.began_s = time.monotonic()
    assert stage.far == far


def test_what_remains_is_told_at_the_pace_so_far() -> None:
    stage = Stage("a", total=100, done=25, began_s=time.monotonic() - 10)
    assert stage.far == "25 of 100, 10 s, about 30 s left"


def test_times_for_people() -> None:
    assert [seconds(value) for value in (0.4, 119, 600, 9000)] == ["0 s", "119 s", "10 min", "2.5 h"]
