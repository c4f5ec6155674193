"""What the ledger, the alias `champion` and the channel of a model say together, and the name of that state.

none        nothing was promoted, and no version has the alias
settled     all three agree
unfinished  the newest ledger entry is not in effect yet: its writer was killed, or is still at it
moved       a hand in MLflow set the alias on another version that genwright made: the alias is the truth, the others follow
refused     it did, and as the team has settled it (aliases.py) it is put back
foreign     the alias is on a version that cannot be served: genwright did not make it, or its bundle is not in the store
removed     a hand removed the alias; the channel serves on
deleted     the champion's version was deleted in MLflow, and the alias with it; the channel serves on
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from components.core.errors import RegistryError, UnknownModel
from components.core.records import Channel, LedgerEntry, Release
from components.registry.steps import Registry, same
from components.registry.versions import CHAMPION

StateName = Literal["none", "settled", "unfinished", "moved", "refused", "foreign", "removed", "deleted"]
PUT_BACK = ("refused", "foreign")  # states of an alias that is not followed


@dataclass(frozen=True)
class State:
    """What the three places say about a model."""

    model: str
    name: StateName
    alias: int | None  # the version that has the alias champion, whoever made it
    champion: Release | None  # that version, where it can be served
    last: LedgerEntry | None
    channel: Channel | None
    pending: bool  # the newest entry is not in effect yet
    registered: bool  # what the newest entry leads to still is a version in MLflow
    stranger: str = ""  # why the version under the alias cannot be served, or is not let be champion


def look(registry: Registry, model: str) -> State:
    """Read the three places. Raises RegistryError when the channel is ahead of the ledger."""
    # In this order, against the order of writing: a promotion that runs meanwhile shows as a taken number, not as a hand.
    found = registry.channels.read(model)
    channel = found[0] if found else None
    reached = channel.sequence if channel else 0
    entries = registry.ledger.after(model, reached - 1)
    last = entries[-1] if entries else None
    if reached and last is None:
        newest = registry.ledger.last(model)
        raise RegistryError(
            f"{model}: the channel names ledger entry {reached}, the ledger ends at {newest.sequence if newest else 0}",
            do="restore the missing entries of the ledger",
        )
    pending = [entry for entry in entries if entry.sequence > reached]
    alias, releases = _versions(registry, model)
    release = releases.get(alias) if alias is not None else None
    registered = last is not None and last.to_version in releases and same(releases[last.to_version], last)
    name, stranger = _name(registry, alias, release, last, pending=pending, registered=registered)
    return State(
        model=model,
        name=name,
        alias=alias,
        champion=None if name in PUT_BACK else release,
        last=last,
        channel=channel,
        pending=bool(pending),
        registered=registered,
        stranger=stranger,
    )


def _versions(registry: Registry, model: str) -> tuple[int | None, dict[int, Release]]:
    try:
        alias = registry.versions.aliases(model).get(CHAMPION)
        return alias, {release.version: release for release in registry.versions.releases(model)}
    except UnknownModel:  # of a registry that was lost, say; the ledger and the channel are in the store
        return None, {}


def _name(
    registry: Registry,
    alias: int | None,
    release: Release | None,
    last: LedgerEntry | None,
    *,
    pending: Sequence[LedgerEntry],
    registered: bool,
) -> tuple[StateName, str]:
    """The name of the state, and why the version under the alias is a stranger where it is."""
    if alias is None:
        return ("none" if last is None else "unfinished" if pending else "removed" if registered else "deleted"), ""
    if release is None:
        return "foreign", "which genwright did not make"
    if last is not None and same(release, last):
        return ("unfinished" if pending else "settled"), ""
    if any(alias in (entry.from_version, entry.to_version) for entry in pending):
        return "unfinished", ""
    if not registry.has_bundle(release.bundle_sha256):
        return "foreign", f"whose bundle {release.bundle_sha256[:12]} is not in the store"
    refusal = registry.judge.refusal(release, registry.ledger.entries(release.model))
    return ("refused", refusal) if refusal else ("moved", "")


def champion_of(registry: Registry, state: State) -> Release | None:
    """The champion that a candidate is proved beside: the ledger's, or the one that a hand in MLflow put in its place.

    None where nothing was promoted, and where a hand took the alias away from a champion whose bundle is lost.
    """
    if state.name == "moved" or state.last is None:
        return state.champion
    last = state.last
    if state.alias is None and not registry.has_bundle(last.to_bundle):
        return None
    return Release(model=state.model, version=last.to_version, bundle_sha256=last.to_bundle, run_id="")


def differences(registry: Registry, state: State) -> tuple[str, ...]:
    """A line for each way in which ledger, alias and channel differ, with what to do; none where they agree."""
    return tuple(f"{state.model}: {line}" for line in _lines(registry, state))


def _lines(registry: Registry, state: State) -> Iterator[str]:
    last, reconcile = state.last, f"`genwright reconcile {state.model}`"
    ledgers = f"the ledger's champion is version {last.to_version}" if last else "nothing was promoted yet"
    if state.name == "moved":
        then = f"{reconcile} lets the ledger and channel follow"
        yield f"a hand in MLflow set the alias champion on version {state.alias}; {ledgers}; {then}"
    if state.name in PUT_BACK:
        put_back = last is not None and state.registered
        removes = (
            f"{reconcile} removes it" if last is None and state.name == "refused" else "what is promoted next takes the alias"
        )
        then = f"{reconcile} puts it back" if put_back else removes
        yield f"the alias champion is on version {state.alias}, {state.stranger}; {ledgers}; {then}"
    if last is None:
        return
    if state.name in ("removed", "deleted"):
        gone = f"version {last.to_version} was deleted in MLflow and its alias champion with it"
        what = gone if state.name == "deleted" else "the alias champion was removed"
        yield f"{what}; the channel still serves bundle {last.to_bundle[:12]}; promote or roll back to choose one"
    if state.pending:
        entry = f"ledger entry {last.sequence} ({last.action}, version {last.to_version})"
        yield f"{entry} is not in effect yet; {reconcile} finishes it"
    elif state.channel is not None and (state.channel.version, state.channel.bundle_sha256) != (last.to_version, last.to_bundle):
        yield f"the channel names version {state.channel.version}; {ledgers}; {reconcile} puts it right"
    if not registry.has_bundle(last.to_bundle):
        yield (
            f"bundle {last.to_bundle[:12]} of version {last.to_version} is not in the store, so no new server can start with it; "
            "put it back, or roll back or promote another"
        )
