"""Promotion, rollback and repair. The order, whatever the command:

    bundle (already put) -> ledger entry -> aliases previous, champion, candidate -> compare-and-swap of the channel

A kill between any two leaves the old or the new version served, and the same command again finishes the job without a second
entry. The alias `champion` is the truth about which version reigns; the channel follows it.
"""

from collections.abc import Mapping
from typing import Any

from components.core.errors import Conflict, UnknownModel
from components.core.records import LedgerEntry, Release
from components.registry.steps import ATTEMPTS, Outcome, Registry, State, append, finish, look, same
from components.registry.versions import PREVIOUS


def promote(
    registry: Registry, model: str, version: int, *, who: str, why: str, evidence: Mapping[str, Any] | None = None
) -> Outcome:
    """Make `version` the champion. Raises UnknownModel, Conflict when others keep being first."""
    release = registry.versions.get(model, version)
    notes: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            state = _noting_hands(registry, model, who, notes)
            if state.last is not None and same(release, state.last):
                return _effect(registry, state.last, notes, changed=False)
            entry = append(registry, state, release, action="promote", who=who, why=why, evidence=dict(evidence or {}))
        except Conflict:
            continue
        return _effect(registry, entry, notes, changed=True)
    raise _contended(model)


def rollback(registry: Registry, model: str, *, who: str, why: str, to: int | None = None) -> Outcome:
    """Let the version `previous` reign again, or the one named by `to`. No bundle is deleted.

    Afterwards `previous` is what reigned before that one, so a second rollback goes one step further back and never forward
    to what was rolled back. Raises UnknownModel when there is nothing to go back to.
    """
    registry.versions.releases(model)  # UnknownModel before anything is written or read under a name that is no model
    notes: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            state = _noting_hands(registry, model, who, notes)
            release = _target(registry, state, to)
            if state.last is not None and same(release, state.last):
                return _effect(registry, state.last, notes, changed=False)
            entry = append(registry, state, release, action="rollback", who=who, why=why, evidence={})
        except Conflict:
            continue
        return _effect(registry, entry, notes, changed=True)
    raise _contended(model)


def reconcile(registry: Registry, model: str, *, who: str) -> Outcome:
    """Finish what a crash left undone; take over what a hand changed in MLflow, with a note in the ledger.

    Raises UnknownModel.
    """
    registry.versions.releases(model)
    notes: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            state = _noting_hands(registry, model, who, notes)
        except Conflict:
            continue
        if state.last is None or (state.champion is None and not state.pending):
            return Outcome(
                model=model, release=None, entry=state.last, changed=False, notes=(*notes, *_nobody_reigns(registry, state))
            )
        return _effect(registry, state.last, notes, changed=bool(notes))
    raise _contended(model)


def _noting_hands(registry: Registry, model: str, who: str, notes: list[str]) -> State:
    """The state, after a champion that was set outside genwright has got its ledger entry, its `previous` and its channel."""
    state = look(registry, model)
    if state.champion is None or not state.moved_by_hand:
        return state
    old, new = state.last and state.last.to_version, state.champion.version
    entry = append(
        registry,
        State(model=model, champion=None, last=state.last, channel=state.channel),  # it came from what the ledger last said
        state.champion,
        action="promote",
        who=f"unknown, noted by {who}",
        why="the alias champion was set by hand in MLflow",
        evidence={"by_hand": True},
    )
    finish(registry, entry)
    notes.append(f"{model}: champion was moved by hand in MLflow from {old or 'none'} to {new}; the ledger and channel follow")
    return look(registry, model)


def _target(registry: Registry, state: State, to: int | None) -> Release:
    if to is not None:
        return registry.versions.get(state.model, to)
    if state.pending and state.last is not None:  # finish a rollback, or undo a promotion, that was killed half-way
        half_way = state.last.to_version if state.last.action == "rollback" else state.last.from_version
        if half_way is not None:
            return registry.versions.get(state.model, half_way)
    if release := registry.versions.by_alias(state.model, PREVIOUS):
        return release
    there = ", ".join(str(release.version) for release in registry.versions.releases(state.model))
    raise UnknownModel(
        f"{state.model} has no previous version to roll back to", allowed=f"versions {there}", do="name one with --to VERSION"
    )


def _effect(registry: Registry, entry: LedgerEntry, notes: list[str], *, changed: bool) -> Outcome:
    moved = finish(registry, entry)
    release = registry.versions.get(entry.model, entry.to_version)
    return Outcome(model=entry.model, release=release, entry=entry, changed=changed or moved, notes=tuple(notes))


def _nobody_reigns(registry: Registry, state: State) -> list[str]:
    if state.last is None:
        return [f"{state.model}: no version was promoted yet"]
    version = state.last.to_version
    gone = version not in {release.version for release in registry.versions.releases(state.model)}
    what = f"version {version} was deleted in MLflow and its alias champion with it" if gone else "the alias champion was removed"
    return [
        f"{state.model}: {what}; the channel still serves bundle {state.last.to_bundle[:12]}; promote or roll back to choose one"
    ]


def _contended(model: str) -> Conflict:
    return Conflict(f"{model}: others keep promoting at the same time", do="run the command again")
