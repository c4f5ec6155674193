"""SIGINT, SIGTERM and SIGHUP end a command within seconds, in one line, wherever it is and whatever it waits for.

The first one raises KeyboardInterrupt in the main thread, so that what is open is closed and what trains is saved. That can take
long or never come: the thread is inside one long call, or a library waits for a server that the same signal has ended. So a
second thread hears of the signal too (Python writes its number to a pipe at once, whatever the main thread does) and END_S later
ends the process, with all that it started. All state on disk is written whole or not at all, so nothing is lost but what was not
saved yet. A second Ctrl-C ends at once.
"""

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from components.core.errors import Interrupted

EXIT_CODE = 130  # 128 + SIGINT, as shells have it; the same for all three
END_S = 8.5  # from the first signal to the end by force
SAVE_S = 7.0  # of these, for a training to save its state
CHILDREN_S = 1.0  # from SIGTERM to SIGKILL for what is left of what this process started
SAME_S = 0.5  # signals so close are one: a process and its group are often sent the same
CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN = "run the same command again to go on"


class Watch:
    """What is known of signals in this process."""

    def __init__(self) -> None:
        self.armed = False
        self.early = True  # nothing that could be saved or left behind has begun
        self.first: signal.Signals | None = None
        self._first_s = 0.0
        self._claimed = False
        self._ending = threading.Lock()

    def arm(self) -> None:
        """Take the signals over, but for those that whoever started this process wants ignored (nohup). In the main thread."""
        if not self.armed:
            read, write = os.pipe()
            os.set_blocking(write, False)
            signal.set_wakeup_fd(write, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(read,), name="interruption", daemon=True).start()
        self.armed = True
        for number in CAUGHT:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._raise)

    def rearm(self) -> None:
        """Take them back from a library that has put its own handlers there; nothing where they were never taken over."""
        if self.armed and threading.current_thread() is threading.main_thread():
            self.arm()

    def claim(self, number: int) -> bool:
        """Whether a handler in the main thread should act on this signal: on the first it hears of, and on no other."""
        self.note(number)
        first, self._claimed = not self._claimed, self.armed
        return first

    def note(self, number: int) -> bool:
        """Whether this signal is the first: from then on the time runs, and libraries are silent."""
        if self.first is not None or not self.armed:
            return False
        self.first, self._first_s = signal.Signals(number), time.monotonic()
        _silence()
        return True

    def line(self, what: str = "") -> str:
        """What is said of the end: the signal's name, unless there is something else to say."""
        name = self.first.name if self.first else signal.SIGINT.name
        return f"genwright: interrupted: {what or name}; {AGAIN}"

    def line_of(self, error: BaseException) -> str:
        return f"genwright: {error}" if isinstance(error, Interrupted) else self.line()

    def end(self, line: str) -> NoReturn:
        """End what this process started, say `line`, and end. Once: another thread that comes here waits for that."""
        self._ending.acquire()
        with contextlib.suppress(Exception):
            end_children()
        cursor = "\r\x1b[2K\x1b[?25h" if os.isatty(2) else ""  # a progress row may have hidden it
        with contextlib.suppress(OSError):
            os.write(2, f"{cursor}{line}\n".encode())
        os._exit(EXIT_CODE)

    def _raise(self, number: int, _frame: FrameType | None) -> None:
        if not self.claim(number):
            return
        if self.early:
            self.end(self.line())
        raise KeyboardInterrupt(signal.Signals(number).name)

    def _watch(self, read: int) -> None:
        """The thread that ends the process when the rest does not."""
        while True:
            left_s = None if self.first is None else max(0.0, self._first_s + END_S - time.monotonic())
            ready, _, _ = select.select([read], [], [], left_s)
            if not ready:
                self.end(self.line())
            for number in os.read(read, 64):
                self._hear(number)

    def _hear(self, number: int) -> None:
        if number not in CAUGHT or self.note(number):
            return
        if number == signal.SIGINT and time.monotonic() - self._first_s > SAME_S:
            self.end(self.line("ended at once by a second Ctrl-C, without a save"))


WATCH = Watch()


def end_children() -> None:
    """End all processes that this one has started and that still run, and those that these have started."""
    if "psutil" not in sys.modules and not _has_children():
        return
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    for child in psutil.wait_procs(children, timeout=CHILDREN_S)[1]:
        with contextlib.suppress(psutil.Error):
            child.kill()


def _has_children() -> bool:
    """Without an import, which takes a moment."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:  # noqa: PTH123 (pathlib is not imported yet)
            return bool(children.read().strip())
    except OSError:
        return True


def _silence() -> None:
    """From now on only the one line: what libraries complain of is that they were interrupted."""
    logging.disable()
    nothing: Callable[[object], None] = lambda _: None  # noqa: E731
    sys.unraisablehook = nothing
    threading.excepthook = nothing
