"""Progress bars on standard error, shown on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]
Report = Callable[[str, int, int], None]  # what is counted, how many are done, of how many


@contextmanager
def bar(title: str, *, total: int | None, show: bool, unit_bytes: bool = False) -> Iterator[Advance]:
    """Yields a function that moves the bar on by so many units. It does nothing unless `show` and a terminal is there."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda units: None
        return
    amount = DownloadColumn() if unit_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda units: progress.advance(task, units)


@contextmanager
def reported(title: str) -> Iterator[Report]:
    """A bar for one who tells how far it is: yields a function of what is counted, the number done and the total."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda what, done, total: progress.update(task, description=f"{title}: {what}", completed=done, total=total)
