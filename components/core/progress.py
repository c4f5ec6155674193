"""Progress bars on standard error, shown on a terminal only; and a way for long work deep below to be counted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Advance = Callable[[int], None]
Report = Callable[[str, int, int], None]  # what is counted, how many are done, of how many
Listener = Callable[[int, int], None]  # how many are done, of how many
T = TypeVar("T")
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


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
    """Yields a function that moves the bar on by so many units. It does nothing unless `show` and a terminal is there."""
    with _live(title, total=total, show=show, unit_bytes=unit_bytes) as shown:
        yield lambda units: shown.progress.advance(shown.task, units) if shown else None


@contextmanager
def reported(title: str) -> Iterator[Report]:
    """A bar for one who tells how far it is: yields a function of what is counted, the number done and the total."""
    with _live(title, total=None, show=True) as shown:

        def report(what: str, done: int, total: int) -> None:
            if shown:
                shown.progress.update(shown.task, description=f"{title}: {what}", completed=done, total=total)

        yield report


class _Live(NamedTuple):
    progress: "Progress"
    task: "TaskID"


@contextmanager
def _live(title: str, *, total: int | None, show: bool, unit_bytes: bool = False) -> Iterator[_Live | None]:
    """The bar, or None where it is not to be shown or there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield None
        return
    amount = DownloadColumn() if unit_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Live(progress, progress.add_task(title, total=total))
