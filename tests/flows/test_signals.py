"""SIGINT, SIGTERM and SIGHUP, to a process or its group, at every stage: saved, one line, exit code 130, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

END_S = 10.0  # the promise; what the tests' own looks cost comes on top
LOOKING_S = 2.0
SAVED = "; training is saved"
STANDS = "; training stands as last saved"  # where a step or a reading lasts too long, as on a machine with twenty times the load
ITEMS = 20_000  # some three seconds of the small VAE
INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
LISTENS = "; ".join(  # a shell's background ignores the first, nohup the second
    (
        "import signal, sys",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)",
    )
)


class Running:
    """A command in a session of its own, which stands for a terminal's or a service's group of processes."""

    def __init__(self, *arguments: str | Path, home: Path, cwd: Path, **variables: str) -> None:
        self.home = home
        self.errors = cwd / f"errors-{time.monotonic_ns()}.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_"))}
        starts = f"{LISTENS}; sys.argv[0] = 'genwright'; from flows.__main__ import main; main()"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", starts, *map(str, arguments)],
                cwd=cwd,
                env={**kept, "GENWRIGHT_HOME": str(home), "GENWRIGHT_ACTOR": "tester", **variables},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def until(self, true: Callable[["Running"], bool], *, limit_s: float = 300) -> None:
        until = time.monotonic() + limit_s
        while not true(self):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.05)

    def send(self, *numbers: signal.Signals, group: bool, apart_s: float = 0.2) -> float:
        """Seconds from the first signal to the end."""
        began = time.monotonic()
        for at, number in enumerate(numbers):
            time.sleep(apart_s if at else 0)
            if self.process.poll() is None:
                (os.killpg if group else os.kill)(self.process.pid, number)
        self.process.wait(60)
        return time.monotonic() - began

    @property
    def said(self) -> str:
        return self.errors.read_text()

    @property
    def children(self) -> list[str]:
        try:
            return [" ".join(each.cmdline()) for each in psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.Error:
            return []

    @property
    def left(self) -> list[str]:
        """What still runs of all that it started, in whatever session: it has the home in its environment."""
        found = []
        for each in psutil.process_iter():
            try:
                if each.environ().get("GENWRIGHT_HOME") == str(self.home) and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(each.cmdline()))
            except psutil.Error:
                continue
        return found

    def check(self, took_s: float, *lines: str) -> None:
        """It ended as promised, and the one line is one of these."""
        assert self.process.returncode == 130, self.said
        assert took_s < END_S + LOOKING_S
        (line,) = [each for each in self.said.splitlines() if each.startswith("genwright")]
        assert line in lines
        assert self.said.splitlines()[-1] == line  # and nothing after it
        for word in ("Traceback", "Exception ignored", "ConnectError", "defect"):
            assert word not in self.said
        assert self.left == []


def line_of(number: signal.Signals, more: str = "") -> str:
    return f"genwright: interrupted: {number.name}{more}; run the same command again to go on"


@pytest.fixture
def pipe(tmp_path: Path) -> dict[str, str]:
    """A named pipe as the policy tables, where a command waits for as long as nobody writes; and a brief to plan."""
    os.mkfifo(tmp_path / "policy.yaml")
    (tmp_path / "brief.yaml").write_text("name: x\nmodality: image\ndata: {path: data/none, items: 500, side: 8}\n")
    return {"GENWRIGHT_POLICY": str(tmp_path / "policy.yaml")}


@pytest.mark.parametrize(("number", "group", "after_s"), [(TERM, False, 0.1), (INT, True, 0.3), (HUP, True, 0.6)])
def test_while_it_starts(tmp_path: Path, pipe: dict[str, str], number: signal.Signals, group: bool, after_s: float) -> None:
    """Before anything is imported, and while it is: the command waits for a pipe, if it comes so far."""
    running = Running("produce", tmp_path / "brief.yaml", home=tmp_path / "home", cwd=tmp_path, **pipe)
    running.until(lambda each: has_handler(each.process.pid, number))
    time.sleep(after_s)
    running.check(running.send(number, group=group), line_of(number))


def has_handler(pid: int, number: signal.Signals) -> bool:
    """Whether the process catches the signal; before Python runs our first line nothing can."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    caught = int(status["SigCgt"], 16)
    return bool(caught >> (TERM - 1) & 1 and caught >> (number - 1) & 1)


def test_what_is_ignored_stays_ignored(tmp_path: Path, pipe: dict[str, str]) -> None:
    """nohup: the terminal may close."""
    command = [sys.executable, "-m", "flows", "plan", str(tmp_path / "brief.yaml")]
    with subprocess.Popen(
        ["nohup", *command],
        env=os.environ | pipe,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        deadline = time.monotonic() + 60
        while not has_handler(running.pid, TERM) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(HUP)
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(TERM)
        assert running.wait(30) == 130


def training(running: Running) -> bool:
    return any("components.pipeline.worker" in child for child in running.children) and "Distance in training" in running.said


def said(word: str) -> Callable[[Running], bool]:
    return lambda running: word in running.said


@pytest.fixture(scope="module")
def road(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return first.road.beside(tmp_path_factory.mktemp("signals") / "road")


# In the order of the stages: each finds what the one before has saved. The last one finishes.
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stage", "numbers", "group", "more"),
    [
        pytest.param(training, (INT,), True, (SAVED, STANDS), id="training, Ctrl-C"),
        pytest.param(
            training, (TERM, TERM, TERM), False, (SAVED, STANDS), id="training, SIGTERM three times", marks=pytest.mark.nightly
        ),
        pytest.param(said("Export:"), (TERM,), True, (), id="export, SIGTERM to the group"),
        pytest.param(said("Proof:"), (HUP,), False, (), id="proof, SIGHUP", marks=pytest.mark.nightly),
    ],
)
def test_at_a_stage(
    road: Any, stage: Callable[[Running], bool], numbers: tuple[signal.Signals, ...], group: bool, more: tuple[str, ...]
) -> None:
    path = road.write(road.brief(compute={"items_seen": ITEMS, "device": "cpu"}))
    running = Running("produce", path, home=road.home, cwd=road.folder)
    running.until(stage)
    lines = [line_of(numbers[0], each) for each in more or ("",)]
    sent = time.time()
    running.check(running.send(*numbers, group=group), *lines)
    if more and SAVED in running.said:
        (state,) = (road.home / "work" / "digits").glob("*/train/state.safetensors")
        assert state.stat().st_mtime >= sent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_command_finishes_what_was_interrupted(road: Any) -> None:
    ran = road.cli("produce", str(road.write(road.brief(compute={"items_seen": ITEMS, "device": "cpu"}))))
    assert ran.returncode == 0, ran.stderr
    assert "version 1, promoted" in ran.stdout


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_second_ctrl_c_ends_at_once_and_a_stopped_worker_is_not_waited_for(first: Any, tmp_path: Path) -> None:
    """The worker is stopped, as one in a step that never ends: it cannot save, and neither way leaves it behind."""
    road = first.road.beside(tmp_path / "road")
    path = road.write(road.brief(compute={"minutes": 0.5, "device": "cpu"}))
    for numbers, line in (
        (
            (INT, INT),
            "genwright: interrupted: ended at once by a second Ctrl-C, without a save; run the same command again to go on",
        ),
        ((TERM,), line_of(TERM, STANDS)),
    ):
        running = Running("produce", path, home=road.home, cwd=road.folder)
        running.until(training)
        (worker,) = [
            each
            for each in psutil.Process(running.process.pid).children(recursive=True)
            if "components.pipeline.worker" in each.cmdline()
        ]
        worker.suspend()
        took_s = running.send(*numbers, group=True, apart_s=1.0)
        running.check(took_s, line)
        assert took_s < 5 or len(numbers) == 1
