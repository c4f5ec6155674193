"""What a Prefect server is to do about runs that die, fail or are refused: `genwright automations` puts it there."""

from collections.abc import Iterator

from components.operations.finding import Finding, Installation, ok, warn
from components.pipeline import automations

PAGE = 200  # that a server gives at once


def check(installation: Installation) -> Iterator[Finding]:
    """One line; where some are missing, one for each."""
    api = installation.prefect
    if api is None:
        yield ok("none without a Prefect server")
        return
    found = api.post("automations/filter", sort="CREATED_DESC", limit=PAGE)
    ours = [each for each in found if automations.is_ours(each)]
    missing = list(automations.missing(ours, webhook=installation.notifies))
    for name in missing:
        yield warn(f"the Prefect server has no automation {name!r}, or a person turned it off", "genwright automations")
    if not missing:
        yield ok(f"{len(ours)} automations on the Prefect server")
