"""Flows that move what is served: promote, rollback and deploy. Seconds, no training."""

from typing import Any

from prefect import flow

from components.core.records import Channel
from components.pipeline import release_commands
from components.registry.steps import Outcome
from flows.settings import load_backends
from flows.tasks import network


@network
def command(name: str, reference: str, **options: Any) -> Any:
    return getattr(release_commands, name)(reference, load_backends(), **options)


@flow(name="promote")
def promote(reference: str, why: str = "", force: bool = False) -> Outcome:
    """Make a version the champion."""
    outcome: Outcome = command("promote", reference, why=why, force=force)
    return outcome


@flow(name="rollback")
def rollback(model: str, why: str = "", to: int | None = None) -> Outcome:
    """Make the version before champion again."""
    outcome: Outcome = command("rollback", model, why=why, to=to)
    return outcome


@flow(name="deploy")
def deploy(reference: str, store: str | None = None) -> Channel:
    """Publish a release's bundle and point its channel at it."""
    channel: Channel = command("deploy", reference, store=store)
    return channel
