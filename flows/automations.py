"""The automations of a Prefect server that look after our runs: components/pipeline/automations.py says which."""

from typing import Any
from urllib.parse import urlsplit

from components.core.errors import InputError
from components.pipeline import automations as rules
from components.pipeline.automations import Automation
from flows import automation_api
from flows.deployments import server

BLOCK = "genwright-notify"  # Prefect's block with the address that is told


def put(webhook: str | None = None, *, silent_s: int = rules.SILENT_S) -> list[Automation]:
    """Create or update them on the server that the environment names; again, and nothing changes.

    `webhook`: the address that hears of failures and refusals; None leaves it as it was. Raises InputError, SettingsError,
    RunError.
    """
    if webhook is not None:
        _check(webhook)
    rules.documents(webhook_block=None, silent_s=silent_s)  # refused before anything is written
    with server() as client:
        block = _block(client) if webhook is None else _put_block(webhook)
        known = automation_api.found(client, rules.PREFIX)
        return [automation_api.put(client, asked, known) for asked in rules.documents(webhook_block=block, silent_s=silent_s)]


def remove() -> list[Automation]:
    """Remove all of them, and the address; what starts a brief at an event is its schedule's, and stays."""
    with server() as client:
        removed = [automation_api.remove(client, each) for each in automation_api.found(client, rules.PREFIX)]
        if (block := _block(client)) is not None:
            client.request("DELETE", f"/block_documents/{block}")
        return removed


def missing(*, webhook: bool) -> tuple[str, ...]:
    """The names of those that the server lacks, or that a person turned off. `webhook`: whether people are to be told."""
    with server() as client:
        return tuple(rules.missing(automation_api.found(client, rules.PREFIX), webhook=webhook))


def _check(webhook: str) -> None:
    parts = urlsplit(webhook)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--webhook {parts.scheme or webhook[:8]}...: no address", allowed="http://HOST/... or https://HOST/...")


def _block(client: Any) -> str | None:
    """The id of the block with the address, where there is one."""
    asked = {"block_documents": {"name": {"any_": [BLOCK]}}, "limit": 1}
    return next((str(each["id"]) for each in client.request("POST", "/block_documents/filter", json=asked).json()), None)


def _put_block(webhook: str) -> str:
    from prefect.blocks.webhook import Webhook

    block = Webhook(url=webhook, headers={"Content-Type": "application/json"})
    return str(block.save(BLOCK, overwrite=True, _sync=True))
