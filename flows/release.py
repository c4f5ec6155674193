"""Flows that move what is served: promote, rollback and deploy. Seconds, no training."""

from typing import Any

from prefect import flow
from prefect.states import Completed, State

from components.core.errors import GateRefused
from components.core.records import Channel
from components.pipeline import release_commands
from components.registry.steps import Outcome
from flows.settings import load_backends
from flows.tasks import network


@network
def command(name: str, reference: str, **options: Any) -> Any:
    return getattr(release_commands, name)(reference, load_backends(), **options)


def refusable(name: str, reference: str, **options: Any) -> Any:
    """What the command makes, or the state Refused with its sentence: a gate's no is no crash."""
    try:
        return command(name, reference, **options)
    except GateRefused as refused:
        return Completed(name="Refused", message=str(refused))


@flow(name="promote")
def promote(reference: str, why: str = "", force: bool = False) -> Outcome | State[None]:
    """Make a version the champion."""
    outcome: Outcome | State[None] = refusable("promote", reference, why=why, force=force)
    return outcome


@flow(name="rollback")
def rollback(model: str, why: str = "", to: int | None = None) -> Outcome:
    """Make the version before champion again."""
    outcome: Outcome = command("rollback", model, why=why, to=to)
    return outcome


@flow(name="deploy")
def deploy(reference: str, store: str | None = None) -> Channel | State[None]:
    """Publish a release's bundle and point its channel at it."""
    channel: Channel | State[None] = refusable("deploy", reference, store=store)
    return channel
