"""One trigger, one run: a slot of a brief never makes two versions, however often it is fired.

A slot is what one trigger asks for: of a cron line the time that it names, on the data as its MD5 is then; of new data that MD5;
of a new base the digest of its bundle; of an event its id.
Of all that fire it at once one holds its lease; how it ended is left in the store. The others, and those that come later, end
as Unchanged and say so. A slot is free again where its run was killed or interrupted, where the failure may pass (a network, a
store) and where the input was wrong, which is found before anything is trained.
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, get_args
from uuid import UUID

from pydantic import AwareDatetime

from components.core import store_keys
from components.core.brief import base_of
from components.core.errors import Conflict, InputError, Interrupted, SettingsError
from components.core.record import Record
from components.core.records import Bundle
from components.data.versions import recorded_md5
from components.pipeline import existing, production
from components.pipeline.backends import Backends
from components.pipeline.briefs import load_brief
from components.pipeline.endings import Ending, Name, ending_of
from components.pipeline.lease import lease
from components.pipeline.pretrained import bundles_begun_with
from components.pipeline.run import Run

Kind = Literal["hand", "cron", "new-data", "new-base", "event"]
LOOKS = ("new-data", "new-base")  # what looks whether something has changed
FREES = (*production.PASSING, InputError, Interrupted, KeyboardInterrupt)  # what leaves a slot to be run again


class Trigger(Record):
    """Why a run was started. `at`: of a cron line, the time that it names; `event`: the id of an event; `by`: the run of the
    scheduler, for people."""

    kind: Kind = "hand"
    at: AwareDatetime | None = None
    event: UUID | None = None
    by: str = ""


class Slot(Record):
    """What a trigger asks for, and once it was run, how that ended."""

    model: str
    data_md5: str
    base: str = ""  # of a look for a new base: the digest of the bundle, or of the bundles, that it names
    trigger: Trigger
    ended: Name | None = None
    sentence: str = ""
    ended_at: AwareDatetime | None = None

    @property
    def name(self) -> str:
        """Its part of a key. New data has one record a model, so that data which comes back counts as new; so has a new base."""
        if self.trigger.event is not None:
            return f"event-{self.trigger.event}"
        if self.trigger.at is None:
            return self.trigger.kind
        return f"{self.trigger.at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{hashlib.sha256(self.data_md5.encode()).hexdigest()[:16]}"

    @property
    def text(self) -> str:
        if self.trigger.event is not None:
            return f"event {self.trigger.event} of {self.model}"
        if self.trigger.kind == "new-base":
            return f"base {self.base[:8]} of {self.model}"
        data = f"data {self.data_md5[:8]} of {self.model}"
        return data if self.trigger.at is None else f"the slot {_minute(self.trigger.at)} on {data}"

    def is_of(self, other: "Slot") -> bool:
        """Whether both ask for the same, where their names are the same: an event is one on whichever data it came again."""
        seen = {"new-data": self.data_md5 == other.data_md5, "new-base": self.base == other.base}
        return seen.get(self.trigger.kind, True)

    @property
    def said(self) -> str:
        """Why a later run of it does nothing."""
        by = f" by {self.trigger.by}" if self.trigger.by else ""
        when = _minute(self.ended_at) if self.ended_at else "before"
        return f"nothing to do: {self.text} was run{by} and ended {when} as {self.ended}: {self.sentence}"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def trigger_of(kind: str, slot: str | datetime | None, by: str) -> Trigger:
    """The trigger that a scheduler names. `slot`: the time of a cron line, or the id of an event; a run by hand has none, and a
    look for new data or a new base needs none. Raises InputError."""
    if kind == "cron":
        return Trigger(kind="cron", at=_time(slot), by=by)
    if kind == "event":
        return Trigger(kind="event", event=_event(slot), by=by)
    if kind != "hand" and kind not in LOOKS:
        raise InputError(f"trigger {kind!r}", allowed=", ".join(get_args(Kind)))
    return Trigger(kind=kind, by=by)


def _time(slot: str | datetime | None) -> datetime:
    try:
        time = datetime.fromisoformat(slot) if isinstance(slot, str) else slot
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError(f"slot {slot!r}", allowed="a time with its zone, as 2026-11-30T03:00:00+00:00")
    return time


def _event(slot: str | datetime | None) -> UUID:
    try:
        return UUID(str(slot))
    except ValueError:
        allowed = "the id of an event, as 01979f6e-7a3c-7c52-9d0c-0a2f4f1f5a11"
        raise InputError(f"slot {str(slot)!r}", allowed=allowed) from None


def retrain(
    path: Path, trigger: Trigger, backends: Backends, resolve_brief: Callable[[str], Run], call: production.Call
) -> Ending:
    """Retrain the brief at a path as its trigger asks, once a slot. `resolve_brief` gives its run, `call` runs the stages.

    A path that is relative lies in a clone, which is gone at the end of the run: raises SettingsError for a home in it.
    """
    home = backends.settings.home
    if not path.is_absolute() and not home.expanduser().is_absolute():
        what = f"GENWRIGHT_HOME: {home} lies in the clone of this run, which is gone at its end"
        raise SettingsError(what, do="set it to an absolute folder where the worker is started")
    if trigger.kind == "hand":
        return _retrained(str(path), backends, resolve_brief, call)
    brief = load_brief(path, backends)
    base = bundles_begun_with(brief, backends) if trigger.kind == "new-base" else ""
    slot = Slot(model=brief.name, data_md5=recorded_md5(brief.data, base=base_of(path)), base=base, trigger=trigger)
    look = trigger.kind if trigger.kind in LOOKS else None
    return once(slot, backends, partial(_retrained, str(path), backends, resolve_brief, call, look=look))


def once(slot: Slot, backends: Backends, work: Callable[[], Ending]) -> Ending:
    """What `work` comes to, unless the slot is being run or was run before."""
    if (known := _known(slot, backends)) is not None:
        return Ending("Unchanged", known.said)
    with ExitStack() as stack:
        try:
            stack.enter_context(lease(f"slots/{slot.model}/{slot.name}", backends))
        except Conflict:
            return Ending("Unchanged", f"nothing to do: another run of {slot.text} is at it")
        if (known := _known(slot, backends)) is not None:  # it ended meanwhile
            return Ending("Unchanged", known.said)
        ending = ending_of(work)
        if not isinstance(ending.error, FREES):
            update = {"ended": ending.name, "sentence": ending.sentence, "ended_at": datetime.now(UTC)}
            backends.workspace.write(store_keys.slot(slot.model, slot.name), slot.model_copy(update=update))
    return ending


def _known(slot: Slot, backends: Backends) -> Slot | None:
    """How the slot ended, where it did. A failed run that a person tries again, as Prefect's page offers, is not turned away."""
    known = backends.workspace.read(store_keys.slot(slot.model, slot.name), Slot)
    if known is None or not known.is_of(slot):
        return None
    retried = known.ended == "Failed" and slot.trigger.by != "" and known.trigger.by == slot.trigger.by
    return None if retried else known


def _retrained(
    path: str, backends: Backends, resolve_brief: Callable[[str], Run], call: production.Call, *, look: Kind | None = None
) -> Ending:
    """`look`: nothing is done where the champion is of this data, or of this base, or while the model is being produced."""
    run = resolve_brief(path)
    if look is not None and (made := _made_of(look, run, backends)):
        return Ending("Unchanged", made, run)
    try:
        return production.retrain(run, backends, partial(production.produce, run, backends, call))
    except Conflict as error:
        if look is not None:
            return Ending("Unchanged", f"nothing to do now: {error}", run, error=error)
        raise


def _made_of(look: Kind, run: Run, backends: Backends) -> str:
    """A line where the champion is of the run's data already, or of its base; else an empty one."""
    model, md5 = run.brief.name, run.dataset.md5
    champion = existing.champion_of(model, backends) if model in backends.versions.models() else None
    if champion is None:
        return ""
    bundle = backends.workspace.read(store_keys.bundle_file(champion.bundle_sha256), Bundle)
    if bundle is None:
        return ""
    its = f"nothing to do: version {champion.version} of {model}, its champion, is of this"
    if look == "new-data" and bundle.lineage.dataset_md5 == md5:
        return f"{its} data ({md5[:8]})"
    added = {each.bundle: each.weight for each in bundle.lineage.adapters}
    if look == "new-base" and run.base is not None and bundle.lineage.base == run.base.bundle_sha256 and added == run.base.added:
        return f"{its} base ({run.base.sum}, {run.base.sha256[:8]})"
    return ""
