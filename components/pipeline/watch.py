"""Watches aliases and tags in MLflow: settles what hands moved, and promotes what people approved.

A look reads the registry, the ledger and the channel, and nothing else: what called for it, the clock or a webhook, has no say.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from components.core.errors import GateRefused, GenwrightError
from components.core.record import Record
from components.core.records import LedgerEntry
from components.pipeline.backends import Backends
from components.pipeline.notices import FOLLOWED, PROMOTED, UNDONE, Notice
from components.pipeline.receiver import Deliveries, Hints
from components.pipeline.release_commands import bundle_of, check_beside
from components.pipeline.run import evidence
from components.registry.aliases import was_champion
from components.registry.hands import LATE_S
from components.registry.state import State, differences, look

FORGET_S = 600.0  # between removals of old deliveries


class Looked(Record):
    """What a look at a model came to: lines for people, and what there is to tell."""

    model: str
    lines: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()


def look_at(model: str, backends: Backends) -> Looked:
    """Settle what a hand moved, finish what was killed, and promote what is approved. Raises what those raise."""
    from components.registry.release import reconcile

    registry = backends.registry
    before, lines = registry.ledger.end(model), list[str]()
    state = look(registry, model)
    if differences(registry, state) and not _is_under_way(state):
        lines += reconcile(registry, model, who=backends.settings.who).notes
    lines += _promote_approved(model, backends)
    notices = [each for entry in registry.ledger.after(model, before) if (each := _notice_of(entry)) is not None]
    return Looked(model=model, lines=tuple(lines), notices=tuple(notices))


def _is_under_way(state: State) -> bool:
    """Whether the writer of the newest entry may still be at it."""
    if state.name != "unfinished" or state.last is None:
        return False
    return datetime.now(UTC) - datetime.fromisoformat(state.last.when) < timedelta(seconds=LATE_S)


def _promote_approved(model: str, backends: Backends) -> list[str]:
    """Promote the newest version that people approved and no promotion ever made champion, where its evidence holds."""
    from components.registry.release import promote
    from components.registry.versions import CHAMPION

    judge, registry = backends.judge, backends.registry
    if judge.tag is None:
        return []
    entries = registry.ledger.entries(model)
    for release in reversed(backends.versions.releases(model)):
        if CHAMPION in release.aliases or was_champion(release, entries):
            return []  # what is older was passed over
        if judge.lacks_tag(release):
            continue
        if lack := judge.lacks(release, entries):
            return [f"{model} version {release.version} has the tag {judge.tag.text} and stays a candidate: it is one {lack}"]
        _, bundle = bundle_of(release, backends)
        try:
            promote(
                registry,
                model,
                release.version,
                who=backends.settings.who,
                why=f"every gate passed, and the tag {judge.tag.text} was set in MLflow",
                evidence=evidence(bundle) | judge.approval(release),
                check=partial(check_beside, release, bundle),
            )
        except GateRefused as refused:  # another took its place meanwhile
            return [str(refused)]
        return [f"{model} version {release.version} has the tag {judge.tag.text} and is champion now"]
    return []


def _notice_of(entry: LedgerEntry) -> Notice | None:
    details: dict[str, Any] = {"version": entry.to_version, "from": entry.from_version, "who": entry.who, **entry.evidence}
    champion = f"{entry.model} version {entry.to_version}"
    if entry.action == "restore":
        sentence = f"{champion} is champion again: {entry.why}"
        return Notice(event=UNDONE, model=entry.model, sentence=sentence, details=details)
    if entry.evidence.get("by_hand"):
        sentence = f"{champion} is champion: {entry.why}"
        return Notice(event=FOLLOWED, model=entry.model, sentence=sentence, details=details)
    if entry.action == "promote":
        return Notice(event=PROMOTED, model=entry.model, sentence=f"{champion} is champion: {entry.why}", details=details)
    return None


@dataclass
class Watcher:
    """Looks at models, now and then and when a hint comes. `say` is given each line once, `tell` each notice."""

    backends: Backends
    asked: Sequence[str]
    say: Callable[[str], None]
    tell: Callable[[Sequence[Notice]], None] = lambda notices: None
    said: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the lines of the last look, by model
    _forgot_s: float = 0.0

    def run(self, hints: Hints, *, every_s: float) -> None:
        """Until an exception ends it, as KeyboardInterrupt does."""
        due = time.monotonic()
        while True:
            self._forget()
            hinted = hints.wait(max(0.0, due - time.monotonic()))
            if hinted:
                self.once(hinted)
            if time.monotonic() >= due:
                self.once()
                due = time.monotonic() + every_s

    def once(self, hinted: set[str] | None = None) -> list[Looked]:
        """One look at each model, or at those of them that were hinted at. What fails is said, and tried again at the next."""
        try:
            models = [each for each in self._models() if hinted is None or each in hinted]
            ours = [each for each in models if self.backends.versions.releases(each)]  # others are of other tools
        except GenwrightError as error:
            self._say_once("", (str(error),))
            return []
        self._say_once("", ())
        return [each for model in ours if (each := self._looked(model)) is not None]

    def _models(self) -> list[str]:
        known = self.backends.versions.models()
        return [each for each in known if each in self.asked] if self.asked else known

    def _looked(self, model: str) -> Looked | None:
        try:
            found = look_at(model, self.backends)
        except GenwrightError as error:
            self._say_once(model, (str(error),))
            return None
        self._say_once(model, found.lines)
        self.tell(found.notices)
        return found

    def _say_once(self, model: str, lines: tuple[str, ...]) -> None:
        """What was said at the look before is not said again."""
        for line in lines:
            if line not in self.said.get(model, ()):
                self.say(line)
        self.said[model] = lines

    def _forget(self) -> None:
        if time.monotonic() - self._forgot_s > FORGET_S:
            self._forgot_s = time.monotonic()
            try:
                Deliveries(self.backends.store).forget(time.time())
            except GenwrightError as error:
                self._say_once("deliveries", (str(error),))
