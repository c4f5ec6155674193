"""Notices as events of the Prefect server that the environment names; where it names none, nobody is told."""

from collections.abc import Iterable
from contextlib import suppress

from components.pipeline.deployments import TAG
from components.pipeline.notices import Notice
from flows import prefect_server


def emit(notices: Iterable[Notice]) -> None:
    """Send them, in a thread of Prefect's. What ended stays as it ended, whether or not anybody hears of it."""
    if not prefect_server.is_named():
        return
    prefect_server.prepare()
    from prefect.events import emit_event

    of_ours = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
    with suppress(Exception):
        for each in notices:
            payload = {"sentence": each.sentence, **each.details}
            emit_event(event=each.event, resource=each.resource, related=[of_ours], payload=payload)
