"""Flows that move what is served: promote, rollback and deploy. Seconds, no training."""

from prefect import flow

from components.core.records import Channel
from components.pipeline import release_commands
from components.registry.steps import Outcome
from flows.settings import load_backends
from flows.tasks import network


@network
def promote_release(reference: str, why: str, force: bool) -> Outcome:
    return release_commands.promote(reference, load_backends(), why=why, force=force)


@network
def rollback_release(model: str, why: str, to: int | None) -> Outcome:
    return release_commands.rollback(model, load_backends(), why=why, to=to)


@network
def deploy_release(reference: str, store: str | None) -> Channel:
    return release_commands.deploy(reference, load_backends(), store=store)


@flow(name="promote")
def promote(reference: str, why: str = "", force: bool = False) -> Outcome:
    """Make a version the champion."""
    outcome: Outcome = promote_release(reference, why, force)
    return outcome


@flow(name="rollback")
def rollback(model: str, why: str = "", to: int | None = None) -> Outcome:
    """Make the version before champion again."""
    outcome: Outcome = rollback_release(model, why, to)
    return outcome


@flow(name="deploy")
def deploy(reference: str, store: str | None = None) -> Channel:
    """Publish a release's bundle and point its channel at it."""
    channel: Channel = deploy_release(reference, store)
    return channel
