"""When a brief is retrained, and from where: what `genwright schedule` asks an orchestrator for.

A worker clones the repository of the brief, so nothing depends on the folder that it was scheduled from, unless that is asked for
(`--here`).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime

from components.core.brief import Brief, base_of
from components.core.cron import next_time
from components.core.errors import BriefError, InputError
from components.core.record import Record
from components.data.lockfiles import fetched, git, recorded
from components.data.revisions import HEAD, WORKSPACE, is_address
from components.pipeline.backends import Backends
from components.pipeline.briefs import load_brief
from components.pipeline.origins import origin_of
from components.pipeline.triggers import Kind

OR_HERE = "or --here, to run it from this folder on this machine alone"
WHY: dict[Kind, str] = {
    "cron": "retrains where the data, the brief or genwright has changed",
    "new-data": "looks whether the data has changed, and only then retrains",
    "new-base": "looks whether the release that it starts from is another one, and only then retrains",
    "event": "retrains when this event comes, once an event",
    "hand": "has no schedule: prefect deployment run retrain/NAME starts it",
}


class Timing(Record):
    """One schedule of a brief: a cron line in a time zone, or every so many minutes from a moment on."""

    kind: Kind
    cron: str | None = None
    timezone: str = "UTC"
    minutes: float | None = None

    @property
    def text(self) -> str:
        return f"{self.cron} {self.timezone}" if self.cron else f"every {self.minutes:g} min" if self.minutes else "by hand"

    def next(self, now: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """When it comes next. `anchor`: from when on its minutes are counted."""
        if self.cron:
            return next_time(self.cron, self.timezone, now)
        if self.minutes is None or anchor is None:
            return None
        every = timedelta(minutes=self.minutes)
        return anchor + (max(0, (now - anchor) // every) + 1) * every


class Schedule(Record):
    """What a brief asks for. Its repository is an address with a branch or commit; or a folder here, without a revision."""

    name: str
    brief: str  # from the top of the repository; absolute where that is a folder
    repository: str
    rev: str | None
    timings: tuple[Timing, ...]
    event: str | None = None  # the event by whose name an automation starts it
    deep: bool = False  # whether its data is of another revision, so that the clone needs more than the last commit


class Planned(Record):
    """A line of what will run when, and why; and how it went last."""

    name: str
    brief: str
    repository: str
    rev: str | None
    trigger: Kind
    when: str
    next: AwareDatetime | None
    paused: bool = False
    why: str
    pool: str | None
    gpu_pool: str | None = None
    last: str | None = None
    last_sentence: str | None = None
    last_at: AwareDatetime | None = None


def schedule_of(path: Path, backends: Backends, *, here: bool = False) -> Schedule:
    """What the brief at a path asks for. `here`: its runs use this folder.

    Raises BriefError, and InputError where a worker could not clone the same brief.
    """
    brief = load_brief(path, backends)
    timings = tuple(_timings(brief))
    event = brief.schedule.on_event if brief.schedule else None
    if here:
        folder, whole = str(base_of(path)), str(path.resolve())
        return Schedule(name=brief.name, brief=whole, repository=folder, rev=None, timings=timings, event=event)
    top = git(path.resolve().parent, "rev-parse", "--show-toplevel")
    if top is None:
        raise InputError(f"{path}: in no git repository, so no worker can clone it", do=f"put it into one, {OR_HERE}")
    root = Path(top.strip())
    address, rev = origin_of(root, otherwise=f", {OR_HERE}")
    inside = path.resolve().relative_to(root.resolve()).as_posix()
    with fetched(address, rev) as copy:
        if copy is None:
            what = f"{address}: cannot be reached, or has no {rev}"
            raise InputError(what, do=f"`git push --set-upstream` it, {OR_HERE}")
        if git(copy, "show", f"FETCH_HEAD:{inside}") != path.read_text(encoding="utf-8"):
            raise InputError(f"{path}: is not at {address} {rev} as it is here", do=f"commit and push it, {OR_HERE}")
        own = _check_data(path, brief, root, copy)
    deep = own and brief.data.rev != HEAD
    return Schedule(name=brief.name, brief=inside, repository=address, rev=rev, timings=timings, event=event, deep=deep)


def _timings(brief: Brief) -> Iterator[Timing]:
    asked = brief.schedule
    if asked is not None and asked.cron:
        yield Timing(kind="cron", cron=asked.cron, timezone=asked.timezone)
    if asked is not None and asked.on_new_data:
        yield Timing(kind="new-data", minutes=asked.poll_minutes)
    if asked is not None and asked.on_new_base:
        yield Timing(kind="new-base", minutes=asked.poll_minutes)


def _check_data(path: Path, brief: Brief, root: Path, copy: Path) -> bool:
    """Whether the data is of the brief's own repository. Raises BriefError for data that a clone of that would not have."""
    data, base = brief.data, base_of(path)
    if is_address(data.repo):
        return False
    if data.rev == WORKSPACE:
        raise BriefError(
            f"{path}: data.rev: workspace is a folder as it lies here", do=f"name HEAD, a tag or a commit, {OR_HERE}"
        )
    place, top = (base / data.repo).resolve() / data.path, root.resolve()
    if Path(data.path).is_absolute() or not place.is_relative_to(top):
        what = f"{path}: data: {place} is outside of {root}, which is what a worker clones"
        raise BriefError(what, do=f"name the address of its repository in data.repo, {OR_HERE}")
    if data.rev == HEAD and recorded(copy, copy / place.relative_to(top), rev="FETCH_HEAD") is None:
        raise BriefError(f"{path}: data.path: DVC tracks no {data.path} in what was pushed", do=f"commit and push it, {OR_HERE}")
    return True
