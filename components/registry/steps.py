"""The steps that put a ledger entry into effect, and what they read. Each can be repeated: only what differs is written.

An entry is *pending* until the channel carries its sequence number, because the channel is the last thing that moves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from components.core.errors import Conflict, RegistryError
from components.core.protocols import ChannelPort
from components.core.record import Record
from components.core.records import Channel, LedgerEntry, Release
from components.registry.ledger import Ledger
from components.registry.versions import CANDIDATE, CHAMPION, PREVIOUS

ATTEMPTS = 5  # how often to begin again when another writer was first


class VersionsPort(Protocol):
    """What a release needs of the model registry."""

    def get(self, model: str, version: int) -> Release: ...
    def by_alias(self, model: str, alias: str) -> Release | None: ...
    def releases(self, model: str) -> list[Release]: ...
    def set_alias(self, model: str, alias: str, version: int) -> None: ...
    def drop_alias(self, model: str, alias: str) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Registry:
    """The three places that a release touches. `after` is called with the name of each step that was done."""

    versions: VersionsPort
    ledger: Ledger
    channels: ChannelPort
    clock: Callable[[], datetime] = _now
    after: Callable[[str], None] = lambda step: None


class Outcome(Record):
    """What a promotion, rollback or reconciliation left behind."""

    model: str
    release: Release | None  # the version that reigns now
    entry: LedgerEntry | None  # the newest entry of the ledger
    changed: bool  # False: everything already was so
    notes: tuple[str, ...] = ()  # one line each, for a person


@dataclass(frozen=True)
class State:
    """What the three places say about a model."""

    model: str
    champion: Release | None
    last: LedgerEntry | None
    channel: Channel | None

    @property
    def pending(self) -> bool:
        """The newest entry is not in effect yet: its writer was killed, or is still at it."""
        return self.last is not None and (self.channel is None or self.channel.sequence < self.last.sequence)

    @property
    def moved_by_hand(self) -> bool:
        """The champion is neither what the ledger says nor what an unfinished entry set out from."""
        if self.champion is None or (self.last is not None and same(self.champion, self.last)):
            return False
        return not (self.last is not None and self.pending and self.champion.version == self.last.from_version)


def same(release: Release, entry: LedgerEntry) -> bool:
    """The release is the entry's target. A rebuilt registry counts from 1 again, so the bundle counts too."""
    return (release.version, release.bundle_sha256) == (entry.to_version, entry.to_bundle)


def look(registry: Registry, model: str) -> State:
    """Read the three places. Raises RegistryError when the channel is ahead of the ledger."""
    # In this order, against the order of writing: a promotion that runs meanwhile shows as a taken number, not as a hand.
    found = registry.channels.read(model)
    last = registry.ledger.last(model)
    channel = found[0] if found else None
    if channel is not None and channel.sequence > (last.sequence if last else 0):
        raise RegistryError(
            f"{model}: the channel names ledger entry {channel.sequence}, the ledger ends at {last.sequence if last else 0}",
            do="restore the missing entries of the ledger",
        )
    return State(model=model, champion=registry.versions.by_alias(model, CHAMPION), last=last, channel=channel)


def append(
    registry: Registry,
    state: State,
    release: Release,
    *,
    action: Literal["promote", "rollback"],
    who: str,
    why: str,
    evidence: dict[str, Any],
) -> LedgerEntry:
    """Write the next entry. Raises Conflict when another was first."""
    last = state.last
    # The champion reigned; without one, or when it already is the target of an entry nobody finished, the ledger's last word.
    came_from = None if state.champion is None or state.champion.version == release.version else state.champion
    entry = LedgerEntry(
        sequence=last.sequence + 1 if last else 1,
        model=release.model,
        action=action,
        from_version=came_from.version if came_from else last.to_version if last else None,
        from_bundle=came_from.bundle_sha256 if came_from else last.to_bundle if last else None,
        to_version=release.version,
        to_bundle=release.bundle_sha256,
        who=who,
        when=registry.clock().isoformat(timespec="seconds"),
        why=why,
        evidence=evidence,
    )
    registry.ledger.append(entry)
    registry.after("ledger")
    return entry


def finish(registry: Registry, entry: LedgerEntry) -> bool:
    """Put the entry into effect: aliases, then the channel. True when something was written.

    Raises Conflict when a newer entry was written meanwhile. MLflow's aliases have no compare-and-swap, so an overtaken
    writer may have set one late: it puts the newer entry into effect before it gives up.
    """
    moved, done = False, None
    while done != (entries := registry.ledger.entries(entry.model))[-1]:
        done = entries[-1]
        moved |= _set_aliases(registry, done, entries)
        moved |= _move_channel(registry, done)
    if done.sequence != entry.sequence:
        raise Conflict(f"{entry.model}: ledger entry {entry.sequence} was overtaken by entry {done.sequence}")
    return moved


def _set_aliases(registry: Registry, entry: LedgerEntry, entries: Sequence[LedgerEntry]) -> bool:
    releases = registry.versions.releases(entry.model)
    now = {alias: release.version for release in releases for alias in release.aliases}
    wanted = {
        PREVIOUS: before(entry.to_version, entries, {release.version for release in releases}),
        CHAMPION: entry.to_version,
        CANDIDATE: None if now.get(CANDIDATE) == entry.to_version else now.get(CANDIDATE),
    }
    for alias, version in wanted.items():
        if version is None and alias in now:
            registry.versions.drop_alias(entry.model, alias)
        elif version is not None and now.get(alias) != version:
            registry.versions.set_alias(entry.model, alias, version)
        registry.after(alias)
    return any(now.get(alias) != version for alias, version in wanted.items())


def before(version: int, entries: Sequence[LedgerEntry], existing: set[int]) -> int | None:
    """The existing version that reigned before `version` was last promoted: where a rollback from it leads."""
    for at in range(len(entries) - 1, -1, -1):
        entry = entries[at]
        if entry.action == "promote" and entry.to_version == version:
            prior = entry.from_version
            return prior if prior is None or prior in existing else before(prior, entries[:at], existing)
    return None


def _move_channel(registry: Registry, entry: LedgerEntry) -> bool:
    wanted = Channel(model=entry.model, version=entry.to_version, bundle_sha256=entry.to_bundle, sequence=entry.sequence)
    for _ in range(ATTEMPTS):
        found = registry.channels.read(entry.model)
        channel, tag = found or (None, None)
        if channel == wanted or (channel is not None and channel.sequence > entry.sequence):
            return False
        try:
            registry.channels.swap(wanted, expected=tag)
        except Conflict:
            continue  # someone finished the same entry, or a newer one: look again
        registry.after("channel")
        return True
    raise Conflict(f"channel of {entry.model}: others keep moving it", do="run the command again")
