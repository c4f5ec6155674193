"""What a hand did to the alias `champion` in MLflow, settled with an entry in the ledger before anything else is done.

An alias on a version that can be served is followed, where the team has not settled otherwise (aliases.py); one on a version that
cannot is put back to the ledger's champion.
"""

import time
from datetime import datetime, timedelta

from components.core.errors import Conflict
from components.core.records import LedgerEntry
from components.registry.state import PUT_BACK, State, differences, look
from components.registry.steps import Registry, append, finish
from components.registry.versions import CHAMPION

LATE_S = 60  # for so long an overtaken writer may still be at it
PATIENCE_S = 3.0  # in which it corrects what it wrote late
LOOK_S = 0.1


def after_hands(registry: Registry, model: str, who: str, notes: list[str]) -> State:
    """The state once hands are settled; a note for each. Raises Conflict when another writer was first."""
    state = _look_twice(registry, model)
    if state.name in PUT_BACK or (state.name == "removed" and registry.judge.moves != "follow"):
        return _put_back(registry, state, who, notes)
    if state.name == "moved":
        return _follow(registry, state, who, notes)
    return state


def _look_twice(registry: Registry, model: str) -> State:
    """The state. An alias on what the ledger overtook a moment ago may be the late word of a writer that is about to correct it,
    and no hand: it is given some time to."""
    until = time.monotonic() + PATIENCE_S
    while (
        (state := look(registry, model)).name in ("moved", "refused")
        and _may_be_late(registry, state)
        and time.monotonic() < until
    ):
        time.sleep(LOOK_S)
    return state


def _may_be_late(registry: Registry, state: State) -> bool:
    if state.last is None or registry.clock() - datetime.fromisoformat(state.last.when) > timedelta(seconds=LATE_S):
        return False
    return any(state.alias in (entry.from_version, entry.to_version) for entry in registry.ledger.entries(state.model))


def _follow(registry: Registry, state: State, who: str, notes: list[str]) -> State:
    """The alias is the truth: it gets its entry, its `previous` and its channel."""
    assert state.champion is not None
    old, new = state.last and state.last.to_version, state.champion.version
    entry = append(
        registry,
        state.champion,
        last=state.last,
        came_from=None,  # but what the ledger last said
        action="promote",
        who=f"unknown, noted by {who}",
        why="the alias champion was set by hand in MLflow",
        evidence={"by_hand": True} | registry.judge.evidence(state.champion),
    )
    finish(registry, entry)
    notes.append(
        f"{state.model}: champion was moved by hand in MLflow from {old or 'none'} to {new}; the ledger and channel follow"
    )
    return look(registry, state.model)


def _put_back(registry: Registry, state: State, who: str, notes: list[str]) -> State:
    """The ledger's champion gets its alias back, where it still is there to get it. Where there is none, nobody has the alias."""
    last = state.last
    if last is None and state.name == "refused":
        if registry.ledger.end(state.model):
            raise Conflict(f"{state.model}: promoted meanwhile", do="run the command again")
        registry.versions.drop_alias(state.model, CHAMPION)
        notes.append(f"{state.model}: the alias champion was taken from version {state.alias}, {state.stranger}")
        return look(registry, state.model)
    if last is None or not state.registered or not registry.has_bundle(last.to_bundle):
        notes.extend(line for line in differences(registry, state) if line not in notes)
        return state
    finish(registry, _restoring(registry, state, last, who))
    was = "was removed" if state.alias is None else f"was on version {state.alias}, {state.stranger}"
    notes.append(f"{state.model}: the alias champion {was}; version {last.to_version}, the ledger's champion, has it back")
    return look(registry, state.model)


def _restoring(registry: Registry, state: State, last: LedgerEntry, who: str) -> LedgerEntry:
    """The entry that puts the champion back: a new one, or the one whose writer was killed before it did."""
    if last.action == "restore" and state.pending:
        return last
    did = "removed" if state.alias is None else f"set on version {state.alias}, {state.stranger},"
    return append(
        registry,
        registry.versions.get(state.model, last.to_version),
        last=last,
        came_from=None,
        action="restore",
        who=who,
        why=f"the alias champion was {did} by hand in MLflow",
        evidence={"undone" if state.name == "refused" else "foreign": state.alias},
    )
