"""Automations as a Prefect server keeps them: found by the beginning of their names, put only where they say something else."""

from typing import Any

from components.pipeline.automations import Automation, Document, is_as_asked, summary

PAGE = 200  # automations that a server gives at once


def found(client: Any, prefix: str) -> list[Document]:
    """Those whose names begin so, the oldest first."""
    all_of_them: list[Document] = []
    while True:
        asked = {"sort": "CREATED_DESC", "limit": PAGE, "offset": len(all_of_them)}
        page = client.request("POST", "/automations/filter", json=asked).json()
        all_of_them += page
        if len(page) < PAGE:
            return [each for each in reversed(all_of_them) if str(each["name"]).startswith(prefix)]


def put(client: Any, asked: Document, known: list[Document]) -> Automation:
    """Create or update one, beside those that were found. Two that ran at once may have made one each: the first stays."""
    about = {"name": asked["name"], "does": summary(asked)}
    mine = [each for each in known if each["name"] == asked["name"]]
    for each in mine[1:]:
        remove(client, each)
    if not mine:
        client.request("POST", "/automations/", json=asked)
        return Automation(**about, became="created")
    first = mine[0]
    if is_as_asked(first, asked):
        return Automation(**about)
    client.request("PUT", f"/automations/{first['id']}", json=asked | {"enabled": first["enabled"]})
    return Automation(**about, became="updated")


def remove(client: Any, known: Document) -> Automation:
    """Remove one that was found."""
    client.request("DELETE", f"/automations/{known['id']}")
    return Automation(name=known["name"], does=summary(known), became="removed")
