"""What people and programs may want to hear of a run or an alias, as events: a name, a sentence, details.

A scheduler sends them to whoever listens; the embedded mode has nobody to tell.

genwright.champion.promoted   a version is champion now
genwright.gate.refused        a gate said no or undecided
genwright.version.proposed    every gate passed, and the version waits for a tag that people set
genwright.budget.reached      a ceiling of the budget ended the training before its work was done
genwright.alias.followed      an alias that a hand moved in MLflow was followed
genwright.alias.undone        it was put back
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from components.core.record import Record
from components.pipeline.endings import Ending
from components.pipeline.run import Produced, Run, Trained, record_key

if TYPE_CHECKING:
    from components.pipeline.backends import Backends

PROMOTED, REFUSED, PROPOSED, BUDGET, FOLLOWED, UNDONE = (
    f"genwright.{name}"
    for name in (
        "champion.promoted",
        "gate.refused",
        "version.proposed",
        "budget.reached",
        "alias.followed",
        "alias.undone",
    )
)
TOLD = (REFUSED, PROPOSED, BUDGET, UNDONE)  # those that a person is told, where a webhook is named
OF_ENDINGS = {"Promoted": PROMOTED, "Refused": REFUSED, "Proposed": PROPOSED}
DONE = "items_seen"  # how a training ends whose work is done


class Notice(Record):
    """One event. Its resource is the model."""

    event: str
    model: str
    sentence: str
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def resource(self) -> dict[str, str]:
        """As Prefect names what an event is of."""
        return {"prefect.resource.id": f"genwright.model.{self.model}", "prefect.resource.name": self.model}


def notices_of(ending: Ending, backends: "Backends") -> Iterator[Notice]:
    """What the end of a run that did something is worth; nothing of one that found nothing to do."""
    run, produced = ending.run, ending.produced
    if produced is None or ending.name not in OF_ENDINGS:
        return
    release = produced.release
    details = {"version": release.version, "bundle": release.bundle_sha256, **_refusals(produced)}
    if run is not None and (reached := _ceiling(run, backends)) is not None:
        yield Notice(event=BUDGET, model=release.model, sentence=reached, details=details)
    yield Notice(event=OF_ENDINGS[ending.name], model=release.model, sentence=ending.sentence, details=details)


def _refusals(produced: Produced) -> dict[str, Any]:
    said = {each.gate: each.text for each in produced.gates.gates if each.verdict != "pass"}
    return {"verdict": produced.gates.verdict, "gates": said}


def _ceiling(run: Run, backends: "Backends") -> str | None:
    """A sentence where a ceiling ended the training of this run; a student's is always ended by one."""
    trained = backends.workspace.read(record_key(run, "train"), Trained)
    if trained is None or run.student is not None or trained.checkpoint.stopped_by == DONE:
        return None
    best = trained.checkpoint
    return (
        f"the training of {run.brief.name} was ended by {best.stopped_by} after {best.items_seen:,} of {best.items_planned:,} "
        "items; the best weights were kept"
    )
