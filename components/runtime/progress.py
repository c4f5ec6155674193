"""What a person sees of long work: each stage with the time it is expected to take, and how far it is. On standard error.

    with stage("Export", about_s=20, basis="measured here before") as shown:
        shown.update(done=3, total=8, note="batch of 64")

On a terminal a row moves all the time, also while the work is inside one call; elsewhere a line is written when the stage has
lasted half a second, and one at least every 20 s (components/runtime/screen.py). Stages nest: the innermost is shown.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from components.runtime.screen import SCREEN, Stage, say

Advance = Callable[[int], None]
Report = Callable[[str, int, int], None]  # what is counted, how many are done, of how many
Listener = Callable[[int, int], None]  # how many are done, of how many
T = TypeVar("T")
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def stage(
    title: str, *, about_s: float | None = None, basis: str = "estimated", quiet_s: float = 0.5, until_next: bool = False
) -> Iterator[Stage]:
    """Show `title` and the seconds it is expected to take (None: nobody knows) until the block ends.

    `basis` says how one knows, as 'estimated' or 'measured here before'. `quiet_s`: away from a terminal, nothing is said before
    so many seconds of it. `until_next`: it ends when another stage begins, if that comes first.
    """
    shown = Stage(title, about_s=about_s, basis=basis, quiet_s=quiet_s, until_next=until_next)
    SCREEN.begin(shown)
    try:
        yield shown
    finally:
        SCREEN.end(shown)


def announce(title: str, *, about_s: float | None = None, basis: str = "estimated") -> None:
    """Say once what begins now and how long it is expected to take: for work that another process shows."""
    promise = Stage(title, about_s=about_s, basis=basis).promise
    say(f"{title}: {promise or 'started'}")


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within, `listener` is told how far each `counted` work is."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def counted(items: Sequence[T]) -> Iterator[T]:
    """The items, and a word after each to whoever listens."""
    listener = _listener.get()
    for done, item in enumerate(items, 1):
        yield item
        if listener is not None:
            listener(done, len(items))


@contextmanager
def bar(title: str, *, total: int | None, show: bool, unit_bytes: bool = False) -> Iterator[Advance]:
    """Yields a function that moves the stage on by so many units. It does nothing unless `show`."""
    if not show:
        yield lambda units: None
        return
    with stage(title, quiet_s=10.0) as shown:
        shown.total, shown.unit = total, "bytes" if unit_bytes else "items"
        yield shown.advance


@contextmanager
def reported(title: str) -> Iterator[Report]:
    """Yields a function of what is counted, the number done and the total: told to the open stage, else to one of this title."""
    if (shown := SCREEN.innermost) is not None:
        yield lambda what, done, total: shown.update(done=done, total=total, note=what)
        return
    with stage(title) as own:
        yield lambda what, done, total: own.update(done=done, total=total, note=what)
