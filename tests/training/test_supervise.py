"""Processes that are waited for: all end well, or the first that does not ends the others and is named."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from components.core.errors import InputError, Interrupted, TrainingFailed
from components.training import supervise as supervising
from components.training.supervise import supervise

READY = "(folder / f'{number}.ready').touch(); time.sleep(60)"
CASES = {
    "well": "time.sleep(0.1 * number)",
    "says": "number or write(); number or sys.exit(1); time.sleep(60)",
    "silent": "sys.exit(3) if number else time.sleep(60)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL) if number else (time.sleep(0.5), write(), sys.exit(1))",
    "slow": "time.sleep(60)",
    "input": "write(); sys.exit(2)",
    "saves": f"signal.signal(signal.SIGTERM, lambda *_: (write(), sys.exit(1))); {READY}",
    "deaf": f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}",
}


@pytest.fixture
def module(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that does one of CASES; its processes leave their ids."""
    (tmp_path / "worker_of_test.py").write_text(
        "import os, pathlib, signal, sys, time\n"
        "folder, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
        "(folder / f'{number}.pid').write_text(str(os.getpid()))\n"
        "def write(): (folder / 'why.txt').write_text('the reason')\n"
        "while len(list(folder.glob('*.pid'))) < 2: time.sleep(0.01)\n"
        f"{CASES[request.param]}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "worker_of_test"


def run(module: str, folder: Path, *, limit_s: float | None = None) -> None:
    try:
        supervise(module, [str(folder)], folder=folder, limit_s=limit_s, processes=2)
    finally:
        pids = [int(path.read_text()) for path in folder.glob("*.pid")]
        assert len(pids) == 2
        assert not any(psutil.pid_exists(pid) for pid in pids), "all have ended, and were waited for"


@pytest.mark.parametrize("module", ["well"], indirect=True)
def test_all_are_waited_for(module: str, tmp_path: Path) -> None:
    run(module, tmp_path)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("says", "^the reason$"),
        ("silent", "^training ended with exit code 3; its output above says more$"),
        ("killed", r"^training was killed \(SIGKILL\), most likely for memory"),
    ],
    indirect=["module"],
)
def test_the_one_that_fails_is_named_and_the_others_are_ended(module: str, reason: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match=reason):
        run(module, tmp_path)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("module", ["input"], indirect=True)
def test_wrong_input_stays_wrong_input(module: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the reason") as caught:
        run(module, tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("module", ["slow"], indirect=True)
def test_a_limit_ends_all(module: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"training took longer than its limit of 1 s; run it again to go on"):
        run(module, tmp_path, limit_s=1.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("module", "saved"), [("saves", "training is saved"), ("deaf", "training stands as last saved")], indirect=["module"]
)
def test_a_signal_is_passed_on_and_what_does_not_end_in_time_is_killed(
    module: str, saved: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "SAVE_S", 10.0 if "is saved" in saved else 0.3)

    def send() -> None:
        while len(list(tmp_path.glob("*.ready"))) < 2:
            time.sleep(0.01)
        for _ in range(3):  # only the first is acted on
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    sending = threading.Thread(target=send)
    sending.start()
    began = time.monotonic()
    try:
        with pytest.raises(Interrupted, match=f"^interrupted: {number.name}; {saved}; run the same command again to go on$"):
            run(module, tmp_path)
    finally:
        sending.join()
        signal.signal(number, before)
    assert time.monotonic() - began < 15
