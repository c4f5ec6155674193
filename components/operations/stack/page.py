"""Where everything of a stack is, on one page."""

import shlex
from collections.abc import Iterator

from components.operations.stack.commands import Up


def page(up: Up) -> str:
    """Which services run where, the variables to set, the logs, and how to stop."""
    return "\n".join(_lines(up))


def _lines(up: Up) -> Iterator[str]:
    stack = up.stack
    wide = max(len(each.title) for each in up.running)
    for each in up.running:
        state = "was started" if each.began else "runs" if each.pid else "does not run"
        yield f"{each.title:<{wide}}  {each.address:<40}  {state}" + (f", process {each.pid}" if each.pid else "")
    yield ""
    yield "In each shell that is to use it:"
    yield f"  source {shlex.quote(str(stack.exports_file))}"
    yield "which is"
    for name, value in stack.exports.items():
        yield f"  export {name}={shlex.quote(value)}"
    yield ""
    yield f"logs: {stack.folder / 'logs'}"
    yield "stop: genwright down (what is stored stays)"
