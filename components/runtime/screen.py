"""Where stages are shown, always on standard error: one live row on a terminal, else a line now and then.

The row moves in a thread of its own, so that it moves while the work is inside one long call. Away from a terminal a thread
writes a line once a stage has lasted, and another each BEAT_S in which nothing else was said.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

BEAT_S = 20.0  # between lines away from a terminal
REFRESH_HZ = 4.0
WIDTH = 24  # of the bar, in columns
LOOK_S = 0.2  # until what lasts is shown, and between looks
SOON_S = 2.0  # after the beginning, a promise is said; later, how far it is
SHOW_CURSOR = "\x1b[?25h"

Unit = Literal["items", "bytes", "share"]


@dataclass
class Stage:
    """One piece of work that takes a while: `about_s` seconds, as far as anybody knows, and why one knows (`basis`).

    Make it with `progress.stage`. `quiet_s`: away from a terminal nothing is said before so many seconds of it.
    """

    title: str
    about_s: float | None = None
    basis: str = ""
    total: float | None = None
    unit: Unit = "items"
    quiet_s: float = 0.5
    until_next: bool = False
    note: str = ""
    done: float = 0.0
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None

    def update(self, *, done: float | None = None, total: float | None = None, note: str | None = None) -> None:
        """How far it is, of how much, and a word on what it does now. Cheap: it only takes notes."""
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.note = self.note if note is None else note

    def advance(self, units: float) -> None:
        self.done += units

    def say(self, line: str) -> None:
        """A line that stays."""
        say(line)

    @property
    def promise(self) -> str:
        """The expected total, said when it begins: 'about 90 s (estimated)'."""
        if self.about_s is None:
            return ""
        return f"about {seconds(self.about_s)}{f' ({self.basis})' if self.basis else ''}"

    @property
    def far(self) -> str:
        """How far it is: '45 of 128, 12 s of about 20 s (estimated), samples'."""
        spent = time.monotonic() - self.began_s
        clock = f"{seconds(spent)} of {self.promise}" if self.about_s is not None else seconds(spent)
        return ", ".join(part for part in (self._amount(), clock + self._left(spent), self.note) if part)

    def _amount(self) -> str:
        if self.unit == "share":
            return f"{self.done:.0%}"
        if self.unit == "bytes":
            return f"{self.done / 1e6:,.1f}{f' of {self.total / 1e6:,.1f}' if self.total else ''} MB"
        if self.total:
            return f"{self.done:,.0f} of {self.total:,.0f}"
        return f"{self.done:,.0f}" if self.done else ""

    def _left(self, spent: float) -> str:
        """What remains at this pace, where nobody said what to expect."""
        if self.about_s is not None or not self.total or not 0 < self.done < self.total or spent < 1:
            return ""
        return f", about {seconds(spent * (self.total - self.done) / self.done)} left"


def seconds(value: float) -> str:
    """A time for people: '45 s', '12 min', '3.5 h'."""
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


class Screen:
    """Shows the innermost of the open stages. One a process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open: list[Stage] = []
        self.said_s = 0.0  # when something was last written
        self.announced: list[Stage] = []
        self._live: Live | None = None
        self._spinner: Spinner | None = None
        self._writer: threading.Thread | None = None

    def begin(self, stage: Stage) -> None:
        with self.lock:
            if self.open and self.open[-1].until_next:
                self._close(self.open[-1])
            self.open.append(stage)
            if self._live is None and self._writer is None:
                self._writer = threading.Thread(target=self._write, name="progress", daemon=True)
                self._writer.start()

    def end(self, stage: Stage) -> None:
        """No error when it has ended before."""
        with self.lock:
            if stage in self.open:
                self._close(stage)
            if not self.open and self._live is not None:
                live, self._live = self._live, None
                live.stop()

    def clear(self) -> None:
        """End all that is open: an answer follows."""
        for stage in [*self.open]:
            self.end(stage)

    @property
    def innermost(self) -> Stage | None:
        """The stage that is shown; not one that ends when another begins."""
        with self.lock:
            return self.open[-1] if self.open and not self.open[-1].until_next else None

    def say(self, line: str) -> None:
        """A line that stays, above the row where there is one."""
        with self.lock:
            self.said_s = time.monotonic()
            if self._live is not None:
                self._live.console.print(line, highlight=False, markup=False, soft_wrap=True)
            else:
                _put(line)

    def _close(self, stage: Stage) -> None:
        self.open.remove(stage)
        stage.ended_s = time.monotonic()
        if stage in self.announced:
            self.announced.remove(stage)

    def row(self) -> "RenderableType":
        """What the terminal shows now."""
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        if not (stages := self.open[-1:]):  # looked at once: another thread may end it
            return ""
        (stage,) = stages
        self._spinner = self._spinner or Spinner("dots")
        row = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [self._spinner, Text(stage.title, style="bold")]
        if stage.total:
            cells.append(ProgressBar(total=stage.total, completed=min(stage.done, stage.total), width=WIDTH))
        row.add_row(*cells, Text(stage.far, no_wrap=True, overflow="ellipsis"))
        return row

    def _write(self) -> None:
        """The thread that shows what lasts: quick answers come without a row or a line."""
        while True:
            time.sleep(LOOK_S)
            with self.lock:
                if not self.open or self._live is not None:
                    self._writer = None
                    return
                if is_terminal():
                    self._live = _live(self)
                else:
                    self._log(self.open[-1], time.monotonic())

    def _log(self, stage: Stage, now: float) -> None:
        """Away from a terminal: the promise when a stage has lasted a moment, then how far it is."""
        lasted_s = now - stage.began_s
        if lasted_s < stage.quiet_s:
            return
        if stage not in self.announced:
            self.announced.append(stage)
            self.say(f"{stage.title}: {stage.far if lasted_s > SOON_S else stage.promise or 'started'}")
        elif now - self.said_s >= BEAT_S:
            self.say(f"{stage.title}: {stage.far}")


def is_terminal() -> bool:
    """Whether a person looks at standard error, on a terminal that can move."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _live(screen: Screen) -> "Live":
    from rich.console import Console
    from rich.live import Live

    live = Live(
        get_renderable=screen.row,
        console=Console(stderr=True),
        refresh_per_second=REFRESH_HZ,
        transient=True,
        redirect_stdout=False,
    )
    live.start(refresh=True)
    return live


def _put(line: str) -> None:
    with suppress(OSError, ValueError):  # nobody listens any more; the work goes on
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


SCREEN = Screen()


def say(line: str) -> None:
    """A line on standard error that stays."""
    SCREEN.say(line)


def answer(line: str) -> None:
    """A line on standard error that ends all stages."""
    SCREEN.clear()
    SCREEN.say(line)
