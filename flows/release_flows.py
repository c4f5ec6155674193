"""Flows that move what is served: promote, rollback and deploy. Seconds, no training."""

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from components.core.errors import Conflict, RegistryError, StorageError
from components.core.records import Channel
from components.registry.steps import Outcome
from flows import moves
from flows.place import Place
from flows.retries import passing

move = task(
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[1, 5, 20],
    retry_condition_fn=passing(StorageError, RegistryError, Conflict),
)


@move
def promote_release(reference: str, why: str, force: bool) -> Outcome:
    return moves.promote(reference, Place(), why=why, force=force)


@move
def rollback_release(model: str, why: str, to: int | None) -> Outcome:
    return moves.rollback(model, Place(), why=why, to=to)


@move
def deploy_release(reference: str, store: str | None) -> Channel:
    return moves.deploy(reference, Place(), store=store)


@flow(name="promote")
def promote(reference: str, why: str = "", force: bool = False) -> Outcome:
    """Make a version the champion."""
    outcome: Outcome = promote_release(reference, why, force)
    return outcome


@flow(name="rollback")
def rollback(model: str, why: str = "", to: int | None = None) -> Outcome:
    """Let the version before reign again."""
    outcome: Outcome = rollback_release(model, why, to)
    return outcome


@flow(name="deploy")
def deploy(reference: str, store: str | None = None) -> Channel:
    """Publish a release's bundle and point its channel at it."""
    channel: Channel = deploy_release(reference, store)
    return channel
