"""One trigger, one run: a slot of a brief never makes two versions, however often it is fired.

A slot is what one trigger asks for: of a cron line the time that it names, on the data as its MD5 is then; of new data that MD5.
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
from typing import Literal

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
from components.pipeline.run import Run

Kind = Literal["hand", "cron", "new-data"]
FREES = (*production.PASSING, InputError, Interrupted, KeyboardInterrupt)  # what leaves a slot to be run again


class Trigger(Record):
    """Why a run was started. `at`: of a cron line, the time that it names; `by`: the run of the scheduler, for people."""

    kind: Kind = "hand"
    at: AwareDatetime | None = None
    by: str = ""


class Slot(Record):
    """What a trigger asks for, and once it was run, how that ended."""

    model: str
    data_md5: str
    trigger: Trigger
    ended: Name | None = None
    sentence: str = ""
    ended_at: AwareDatetime | None = None

    @property
    def name(self) -> str:
        """Its part of a key. New data has one record a model, so that data which comes back counts as new."""
        if self.trigger.at is None:
            return "new-data"
        return f"{self.trigger.at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{hashlib.sha256(self.data_md5.encode()).hexdigest()[:16]}"

    @property
    def text(self) -> str:
        data = f"data {self.data_md5[:8]} of {self.model}"
        return data if self.trigger.at is None else f"the slot {_minute(self.trigger.at)} on {data}"

    @property
    def said(self) -> str:
        """Why a later run of it does nothing."""
        by = f" by {self.trigger.by}" if self.trigger.by else ""
        when = _minute(self.ended_at) if self.ended_at else "before"
        return f"nothing to do: {self.text} was run{by} and ended {when} as {self.ended}: {self.sentence}"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def trigger_of(kind: str, at: str | datetime | None, by: str) -> Trigger:
    """The trigger that a scheduler names. A run by hand has no slot, and new data needs no time. Raises InputError."""
    if kind not in ("hand", "cron", "new-data"):
        raise InputError(f"trigger {kind!r}", allowed="hand, cron, new-data")
    if kind != "cron":
        return Trigger(kind=kind, by=by)
    try:
        time = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError(f"slot {at!r}", allowed="a time with its zone, as 2026-11-30T03:00:00+00:00")
    return Trigger(kind="cron", at=time, by=by)


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
    slot = Slot(model=brief.name, data_md5=recorded_md5(brief.data, base=base_of(path)), trigger=trigger)
    return once(slot, backends, partial(_retrained, str(path), backends, resolve_brief, call, only_new=slot.trigger.at is None))


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
    if known is None or known.data_md5 != slot.data_md5:
        return None
    retried = known.ended == "Failed" and slot.trigger.by != "" and known.trigger.by == slot.trigger.by
    return None if retried else known


def _retrained(
    path: str, backends: Backends, resolve_brief: Callable[[str], Run], call: production.Call, *, only_new: bool = False
) -> Ending:
    """`only_new`: nothing is done where the champion is of this data, or while the model is being produced."""
    run = resolve_brief(path)
    if only_new and (made := _made_of(run, backends)):
        return Ending("Unchanged", made, run)
    try:
        return production.retrain(run, backends, partial(production.produce, run, backends, call))
    except Conflict as error:
        if only_new:
            return Ending("Unchanged", f"nothing to do now: {error}", run, error=error)
        raise


def _made_of(run: Run, backends: Backends) -> str:
    """A line where the champion is of the run's data already; else an empty one."""
    model, md5 = run.brief.name, run.dataset.md5
    champion = existing.champion_of(model, backends) if model in backends.versions.models() else None
    if champion is None:
        return ""
    bundle = backends.workspace.read(store_keys.bundle_file(champion.bundle_sha256), Bundle)
    if bundle is None or bundle.lineage.dataset_md5 != md5:
        return ""
    return f"nothing to do: version {champion.version} of {model}, its champion, is of this data ({md5[:8]})"
