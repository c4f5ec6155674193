"""The steps that write a ledger entry and put it into effect. Each can be repeated: only what differs is written.

An entry is *pending* until the channel carries its sequence number, because the channel is the last thing that moves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from components.core.errors import Conflict
from components.core.record import Record
from components.core.records import Channel, LedgerEntry, Release
from components.core.stores import ChannelPort
from components.registry.aliases import FOLLOW, Judge
from components.registry.ledger import Ledger
from components.registry.versions import CANDIDATE, CHAMPION, PREVIOUS

ATTEMPTS = 50  # how often to begin again when another writer was first: each time, one of the others is done


class VersionsPort(Protocol):
    """What a release needs of the model registry."""

    def get(self, model: str, version: int) -> Release: ...
    def aliases(self, model: str) -> dict[str, int]: ...
    def releases(self, model: str) -> list[Release]: ...
    def set_alias(self, model: str, alias: str, version: int) -> None: ...
    def drop_alias(self, model: str, alias: str) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Registry:
    """The three places that a release touches.

    `has_bundle` says whether the store holds the bundle of a digest: what has none cannot be served. `judge` says whether a hand
    that moved the alias champion is followed. `after` is called with the name of each step that was done, `settled` with a model
    whose newest entry is in effect.
    """

    versions: VersionsPort
    ledger: Ledger
    channels: ChannelPort
    has_bundle: Callable[[str], bool] = lambda sha256: True
    judge: Judge = FOLLOW
    clock: Callable[[], datetime] = _now
    after: Callable[[str], None] = lambda step: None
    settled: Callable[[str], None] = lambda model: None


class Outcome(Record):
    """What a promotion, rollback or reconciliation left behind."""

    model: str
    release: Release | None  # the version that is champion now
    entry: LedgerEntry | None  # the newest entry of the ledger
    changed: bool  # False: everything already was so
    notes: tuple[str, ...] = ()  # one line each, for a person


def same(release: Release, entry: LedgerEntry) -> bool:
    """The release is the entry's target. A rebuilt registry counts from 1 again, so the bundle counts too."""
    return (release.version, release.bundle_sha256) == (entry.to_version, entry.to_bundle)


def append(
    registry: Registry,
    release: Release,
    *,
    last: LedgerEntry | None,
    came_from: Release | None,
    action: Literal["promote", "rollback", "restore"],
    who: str,
    why: str,
    evidence: dict[str, Any],
) -> LedgerEntry:
    """Write the entry after `last`: from `came_from`, or from what the ledger last said. Raises Conflict when it is taken."""
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


def finish(registry: Registry, entry: LedgerEntry) -> tuple[LedgerEntry, bool]:
    """Put the entry into effect, or the newest one where others followed: aliases, then the channel.

    Returns the entry that is in effect, and whether something was written. MLflow's aliases have no compare-and-swap, so a writer
    that was overtaken may have set one late: it puts the newest entry into effect before it ends.
    """
    moved, done = False, None
    while done != (entries := registry.ledger.entries(entry.model))[-1]:
        done = entries[-1]
        moved |= _set_aliases(registry, done, entries)
        moved |= _move_channel(registry, done)
    registry.settled(entry.model)
    return done, moved


def _set_aliases(registry: Registry, entry: LedgerEntry, entries: Sequence[LedgerEntry]) -> bool:
    now = registry.versions.aliases(entry.model)
    existing = {release.version for release in registry.versions.releases(entry.model)}
    wanted = {
        PREVIOUS: before(entry.to_version, entries, existing),
        CHAMPION: entry.to_version,
        CANDIDATE: None if now.get(CANDIDATE) == entry.to_version else now.get(CANDIDATE),
    }
    for alias, version in wanted.items():
        if now.get(alias) != version and registry.ledger.end(entry.model) != entry.sequence:
            return True  # overtaken: the newer entry's aliases are not to be set back, not even for a moment
        if version is None and alias in now:
            registry.versions.drop_alias(entry.model, alias)
        elif version is not None and now.get(alias) != version:
            registry.versions.set_alias(entry.model, alias, version)
        registry.after(alias)
    return any(now.get(alias) != version for alias, version in wanted.items())


def before(version: int, entries: Sequence[LedgerEntry], existing: set[int]) -> int | None:
    """The existing version that was champion before `version` was last promoted: where a rollback from it leads."""
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
