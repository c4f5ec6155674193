"""Promotion, rollback and repair. The order, whatever the command:

    bundle (already put) -> ledger entry -> aliases previous, champion, candidate -> compare-and-swap of the channel

A kill between any two leaves the old or the new version served, and the same command again finishes the job without a second
entry. The alias `champion` is the truth about which version is champion, while it is on a version that can be served; the channel
follows it. The ledger entry is what counts as done: who wrote one is told so, even where another followed at once.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from components.core.errors import BundleError, Conflict, GenwrightError, UnknownModel
from components.core.records import LedgerEntry, Release
from components.registry.hands import after_hands
from components.registry.state import PUT_BACK, State, champion_of, differences, look
from components.registry.steps import ATTEMPTS, Outcome, Registry, append, before, finish, same
from components.registry.versions import PREVIOUS

Check = Callable[[Release | None], None]  # raises where what is to be promoted was not proved beside this champion


def promote(
    registry: Registry,
    model: str,
    version: int,
    *,
    who: str,
    why: str,
    evidence: Mapping[str, Any] | None = None,
    check: Check | None = None,
    fence: Callable[[], None] = lambda: None,
) -> Outcome:
    """Make `version` the champion.

    `check` is asked at the moment of writing, so of many that were proved beside one champion the first alone takes its place.
    `fence` is asked before anything is written, what finishes the work of another among it; it raises for who may not write any
    more. Raises what they raise, UnknownModel, BundleError for a version without a bundle, and Conflict when others keep being
    first.
    """
    release = registry.versions.get(model, version)
    notes: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            fence()
            state = after_hands(registry, model, who, notes)
            fence()
            if state.last is not None and same(release, state.last):
                return _effect(registry, state.last, notes, changed=bool(notes))
            if check is not None:
                check(champion_of(registry, state))
            entry = _next(registry, state, release, action="promote", who=who, why=why, evidence=dict(evidence or {}))
        except Conflict:
            continue
        return _effect(registry, entry, notes, changed=True)
    raise _contended(model)


def rollback(registry: Registry, model: str, *, who: str, why: str, to: int | None = None) -> Outcome:
    """Make the version `previous` champion again, or the one named by `to`. No bundle is deleted.

    Afterwards `previous` is the champion before that one, so a second rollback goes one step further back and never forward
    to what was rolled back. From a foreign champion the step back is to the ledger's. Raises UnknownModel when there is nothing
    to go back to, BundleError for a version without a bundle.
    """
    registry.versions.releases(model)  # UnknownModel before anything is written or read under a name that is no model
    notes: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            state = after_hands(registry, model, who, notes)
            put_back = bool(notes) and state.last is not None and state.last.action == "restore"
            if put_back and to is None and state.last is not None:
                return _effect(registry, state.last, notes, changed=True)
            release = _target(registry, state, to)
            if state.last is not None and same(release, state.last):
                return _effect(registry, state.last, notes, changed=bool(notes))
            entry = _next(registry, state, release, action="rollback", who=who, why=why, evidence={})
        except Conflict:
            continue
        return _effect(registry, entry, notes, changed=True)
    raise _contended(model)


def reconcile(registry: Registry, model: str, *, who: str) -> Outcome:
    """Finish what a crash left undone, and settle what a hand changed in MLflow, with an entry in the ledger.

    Raises UnknownModel.
    """
    registry.versions.releases(model)
    notes: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            state = after_hands(registry, model, who, notes)
            if state.last is None or state.name in ("removed", "deleted", *PUT_BACK):  # nothing that could be put right
                left = tuple(dict.fromkeys((*notes, *differences(registry, state)))) or (f"{model}: no version was promoted yet",)
                return Outcome(model=model, release=None, entry=state.last, changed=False, notes=left)
            done = _effect(registry, state.last, notes, changed=bool(notes))
            return done.model_copy(update={"notes": (*done.notes, *differences(registry, look(registry, model)))})
        except Conflict:
            continue
    raise _contended(model)


def _next(
    registry: Registry,
    state: State,
    release: Release,
    *,
    action: Literal["promote", "rollback"],
    who: str,
    why: str,
    evidence: dict[str, Any],
) -> LedgerEntry:
    """Write the next entry. Raises BundleError, or Conflict when another was first."""
    if not registry.has_bundle(release.bundle_sha256):
        what = f"{state.model} version {release.version}: its bundle {release.bundle_sha256[:12]} is not in the store"
        raise BundleError(what, do="put it back, or choose another version")
    # There was a champion; without one, or when it already is the target of an entry nobody finished, the ledger's last word.
    came_from = None if state.champion is None or state.champion.version == release.version else state.champion
    return append(registry, release, last=state.last, came_from=came_from, action=action, who=who, why=why, evidence=evidence)


def _target(registry: Registry, state: State, to: int | None) -> Release:
    if to is not None:
        return registry.versions.get(state.model, to)
    if state.pending and state.last is not None:  # finish a rollback, or undo a promotion, that was killed half-way
        half_way = state.last.from_version if state.last.action == "promote" else state.last.to_version
        if half_way is not None:
            return registry.versions.get(state.model, half_way)
    releases = {release.version: release for release in registry.versions.releases(state.model)}
    alias = registry.versions.aliases(state.model).get(PREVIOUS)
    if alias is not None and alias not in releases and state.last is not None:  # a hand set it on what genwright did not make
        alias = before(state.last.to_version, registry.ledger.entries(state.model), set(releases))
    if alias in releases:
        return releases[alias]
    there = ", ".join(map(str, releases))
    raise UnknownModel(
        f"{state.model} has no previous version to roll back to", allowed=f"versions {there}", do="name one with --to VERSION"
    )


def _effect(registry: Registry, entry: LedgerEntry, notes: list[str], *, changed: bool) -> Outcome:
    """Put the entry into effect, and say which version is champion. Whatever stops it, the entry stands; the error says so."""
    try:
        newest, moved = finish(registry, entry)
        release = registry.versions.get(newest.model, newest.to_version)
    except GenwrightError as error:
        raise type(error)(
            f"{entry.model}: ledger entry {entry.sequence} ({entry.action}, version {entry.to_version}) stands, but is not in "
            f"effect yet: {error}",
            do=f"run `genwright reconcile {entry.model}`",
        ) from error
    if newest.sequence != entry.sequence:
        own = f"ledger entry {entry.sequence} ({entry.action}, version {entry.to_version}) stands"
        then = f"entry {newest.sequence} ({newest.action}, version {newest.to_version}, by {newest.who}) followed at once"
        notes.append(f"{entry.model}: {own}; {then}")
    return Outcome(model=entry.model, release=release, entry=newest, changed=changed or moved, notes=tuple(notes))


def _contended(model: str) -> Conflict:
    return Conflict(f"{model}: others keep promoting at the same time; nothing was written", do="run the command again")
