"""The Prefect server: whether it answers, and its version."""

from collections.abc import Iterator
from importlib.metadata import version

from components.core.errors import RunError
from components.operations.finding import Finding, Installation, fail, ok, warn


def check(installation: Installation) -> Iterator[Finding]:
    """One line; without a server, stages run in the process of the command."""
    api = installation.prefect
    if api is None:
        yield ok("no PREFECT_API_URL: stages run in the process of the command, and nothing is scheduled")
        return
    try:
        its = str(api.get("admin/version"))
    except RunError as error:
        yield fail(str(error), "start it (genwright up), or correct PREFECT_API_URL")
        return
    own = version("prefect")
    if its.split(".")[:2] == own.split(".")[:2]:
        yield ok(f"Prefect {its} at {api.url}")
    else:
        yield warn(f"the Prefect server is {its}, and {own} is installed here", "bring both to one version")
