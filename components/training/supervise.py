"""Training runs in a process of its own: a crash, an OOM kill or a time limit there ends here as one clear line."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from components.core.errors import InputError, Interrupted, TrainingFailed
from components.runtime.interruption import AGAIN, CAUGHT, SAVE_S, WATCH
from components.training.folder import STATE, WHY

LOOK_S = 0.2  # between looks at several processes
GRACE_S = 30.0  # from SIGTERM, on which the trainer saves its state, to SIGKILL

# The number of threads is a rule (runtime/threads.py), so they must get on beside others. Spinning while they wait is fastest on
# idle cores and forty times slower on busy ones; a short spin is nearly as fast, and three times slower.
SHORT_SPIN = {"GOMP_SPINCOUNT": "3000"}


def supervise(module: str, arguments: Sequence[str], *, folder: Path, limit_s: float | None, processes: int = 1) -> None:
    """Run `python -m MODULE ARGUMENTS NUMBER` in so many processes, numbered from 0, to their end; `folder` is where one may
    leave a `why.txt`.

    SIGINT, SIGTERM and SIGHUP are passed on to the first, which then saves the state and ends the training in all; what has not
    ended SAVE_S later is killed, and the state is that of the last save. Raises Interrupted then; TrainingFailed when one does
    not exit with 0, InputError when it says that the input is wrong; the others are ended then.
    """
    why = folder / WHY
    why.unlink(missing_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    environment = SHORT_SPIN | dict(os.environ)
    # A session of its own: Ctrl-C reaches a worker once, through us.
    workers = [
        subprocess.Popen([*command, str(number)], env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        for number in range(processes)
    ]
    with _passing_signals_to(workers[0]) as told:
        try:
            code = _outcome(workers, limit_s, told)
        except subprocess.TimeoutExpired:
            raise TrainingFailed(
                f"training took longer than its limit of {limit_s:.0f} s",
                do="run it again to go on",
            ) from None
        finally:
            _end(workers, within_s=0.0 if told.number else GRACE_S)
    if told.number:
        saved = "training is saved" if code >= 0 or _saved_since(folder, told) else "training stands as last saved"
        raise Interrupted(f"interrupted: {told.number.name}; {saved}", do=AGAIN)
    if code:
        said = code > 0 and why.exists()
        kind = InputError if code == InputError.exit_code else TrainingFailed
        raise kind(why.read_text(encoding="utf-8").strip() if said else _reason(code))


def _outcome(workers: "Sequence[subprocess.Popen[bytes]]", limit_s: float | None, told: "_Told") -> int:
    """0 once all have ended well; as soon as some have not, the code of one: of one that a signal ended, where there is one, as
    the others fail with it. SAVE_S after a signal it is that of SIGKILL. Raises TimeoutExpired after `limit_s`."""
    until = math.inf if limit_s is None else time.monotonic() + limit_s
    while True:
        codes = [worker.poll() for worker in workers]
        failed = sorted(code for code in codes if code)
        if failed or None not in codes:
            return failed[0] if failed else 0
        if time.monotonic() > told.at_s + SAVE_S:
            return -signal.SIGKILL
        if time.monotonic() > until:
            raise subprocess.TimeoutExpired("training", limit_s or 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            workers[codes.index(None)].wait(LOOK_S)


def _reason(code: int) -> str:
    """What the exit code says when the worker could not."""
    if code == -signal.SIGKILL:
        return "training was killed (SIGKILL), most likely for memory; lower override.config.batch_size, or run it again to go on"
    if code < 0:
        return f"training was ended by {signal.Signals(-code).name}; run it again to go on"
    return f"training ended with exit code {code}; its output above says more"


def _end(workers: "Sequence[subprocess.Popen[bytes]]", *, within_s: float) -> None:
    """Those that still run, all of them within the time; none does where all went well."""
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + within_s
    for worker in workers:
        try:
            worker.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


@dataclass
class _Told:
    """The first signal that was passed on, and when."""

    number: signal.Signals | None = None
    at_s: float = math.inf
    wall_s: float = math.inf  # the same on the clock of the files


def _saved_since(folder: Path, told: _Told) -> bool:
    """Whether a worker that was killed had saved its state all the same: what it does after that may take longer."""
    try:
        return (folder / STATE).stat().st_mtime >= told.wall_s
    except OSError:
        return False


@contextlib.contextmanager
def _passing_signals_to(worker: "subprocess.Popen[bytes]") -> Iterator[_Told]:
    """While training, the first signal goes to the worker. In another thread than the main one none can be passed on."""
    told = _Told()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        WATCH.claim(number)
        if told.number is None:
            told.number, told.at_s, told.wall_s = signal.Signals(number), time.monotonic(), time.time()
            worker.send_signal(signal.SIGTERM)  # which is not ignored, as SIGINT may be

    heard = [number for number in CAUGHT if signal.getsignal(number) != signal.SIG_IGN]
    try:
        before = {number: signal.signal(number, pass_on) for number in heard}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
