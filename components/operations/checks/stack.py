"""What `genwright up` started: whether all of it still runs."""

from collections.abc import Iterator

from components.operations.finding import Finding, Installation, fail, ok
from components.operations.stack.commands import status


def check(installation: Installation) -> Iterator[Finding]:
    """One line; where some of it has ended, one for each."""
    found = status(installation.backends.named_home)
    running = [each for each in found.running if each.pid] if found else []
    if found is None or not running:
        yield ok("nothing of `genwright up` runs")
        return
    for each in found.running:
        if each.pid is None:
            yield fail(f"{each.title} of `genwright up` has ended; its log is {each.log}", "genwright up starts it again")
    if len(running) == len(found.running):
        yield ok(f"{len(running)} processes of `genwright up` run")
