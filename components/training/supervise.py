"""Training runs in a process of its own: a crash, an OOM kill or a time limit there ends here as one clear line."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from components.core.errors import TrainingFailed

GRACE_S = 30.0  # from SIGTERM, on which the trainer saves its state, to SIGKILL
WHY = "why.txt"  # the worker leaves its one-line reason here

# Waiting passively costs two threads on an idle machine a third of their speed; a busy one is met by choosing one thread.
UNWANTED = {"OMP_WAIT_POLICY"}


def supervise(module: str, arguments: Sequence[str], *, folder: Path, limit_s: float | None) -> None:
    """Run `python -m MODULE ARGUMENTS` to its end; `folder` is where it may leave a `why.txt`.

    SIGINT and SIGTERM are passed on, and the worker then saves its state. Raises TrainingFailed when it does not exit with 0.
    """
    why = folder / WHY
    why.unlink(missing_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    # A session of its own: Ctrl-C reaches the worker once, through us.
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    with _passing_signals_to(worker):
        try:
            code = worker.wait(limit_s)
        except subprocess.TimeoutExpired:
            _end(worker)
            raise TrainingFailed(
                f"training took longer than its limit of {limit_s:.0f} s",
                do="raise compute.minutes in the brief, or run it again to go on",
            ) from None
        except BaseException:
            _end(worker)
            raise
    if code:
        raise TrainingFailed(why.read_text(encoding="utf-8").strip() if why.exists() else _reason(code))


def _reason(code: int) -> str:
    """What the exit code says when the worker could not."""
    if code == -signal.SIGKILL:
        return "training was killed (SIGKILL), most likely for memory; lower override.config.batch_size, or run it again to go on"
    if code < 0:
        return f"training was ended by {signal.Signals(-code).name}; run it again to go on"
    return f"training ended with exit code {code}; its output above says more"


def _end(worker: "subprocess.Popen[bytes]") -> None:
    worker.terminate()
    try:
        worker.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


@contextlib.contextmanager
def _passing_signals_to(worker: "subprocess.Popen[bytes]") -> Iterator[None]:
    """While training, SIGINT and SIGTERM go to the worker. In another thread than the main one nothing can be passed on."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        worker.send_signal(signal.SIGTERM if number == signal.SIGINT else number)

    try:
        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
