"""What a Prefect server does by itself about runs of genwright, as documents of its automations: plain JSON, no Prefect.

Those of `genwright automations`:

crash-silent   a run whose heartbeats stop is Crashed: its process, or the machine of it, is gone without a word
tell-failed    a run that Failed or Crashed is told to a webhook
tell-refused   so is what notices.py says of a run or an alias: a refused gate, a reached ceiling, an undone alias, a missing tag

And one of `genwright schedule` for each brief with `on_event`: what starts retrain/NAME when an event comes.

https://docs.prefect.io/v3/api-ref/rest-api has the documents: `POST /automations/`. They are known by their names.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.core.errors import InputError
from components.core.record import Record
from components.pipeline.deployments import STAGE_TAG, TAG
from components.pipeline.notices import TOLD

PREFIX = "genwright: "
OF_SCHEDULES = "genwright schedule: "  # and the brief's name
CRASH, FAILED, REFUSED = (f"{PREFIX}{name}" for name in ("crash-silent", "tell-failed", "tell-refused"))
SILENT_S = 600  # three of Prefect's heartbeats, which come every 180 s unless PREFECT_FLOWS_HEARTBEAT_FREQUENCY says otherwise
SILENT_MIN_S = 35  # its heartbeats come every 30 s at the most often
HEARTBEAT = "prefect.flow-run.heartbeat"
RUNS = "prefect.flow-run.*"
# `text` is what Slack, Mattermost and Teams show of a webhook; the rest is for programs.
STATE = '(event.resource["prefect.state-name"] ~ ": " ~ event.resource["prefect.state-message"])'
SENTENCE = f'(event.payload.sentence or (event.resource["prefect.resource.name"] ~ " is " ~ {STATE}))'
PAYLOAD = (
    "{"
    f'"text": {{{{ {SENTENCE} | tojson }}}}, '
    '"event": {{ event.event | tojson }}, '
    '"resource": {{ event.resource | tojson }}, '
    '"details": {{ event.payload | tojson }}, '
    '"occurred": {{ event.occurred | string | tojson }}'
    "}"
)

Document = dict[str, Any]


class Automation(Record):
    """One automation, for people: `became` is what was done about it."""

    name: str
    does: str
    became: str = "unchanged"  # created, updated, unchanged, removed


def documents(*, webhook_block: str | None, silent_s: int = SILENT_S) -> list[Document]:
    """The automations; those that tell only where there is a block to tell by. Raises InputError."""
    if silent_s < SILENT_MIN_S:
        raise InputError(
            f"--silent-s {silent_s}", allowed=f"{SILENT_MIN_S} or more: heartbeats come every 30 s at the most often"
        )
    return [_crash(silent_s), *([] if webhook_block is None else _tell(webhook_block))]


def _crash(silent_s: int) -> Document:
    message = f"no heartbeat for {silent_s} s: its process is gone, or its machine"
    return _document(
        CRASH,
        f"Sets a run Crashed that was silent for {silent_s} s",
        # Any other word of the run ends the wait: its states have names of ours, such as Promoted.
        {"posture": "Proactive", "after": [HEARTBEAT], "expect": [RUNS], "within": silent_s, "match": _resource(RUNS)},
        {"type": "change-flow-run-state", "state": "CRASHED", "message": message},
        tags=(TAG, STAGE_TAG),
    )


def _tell(block: str) -> list[Document]:
    call = {"type": "call-webhook", "block_document_id": block, "payload": PAYLOAD}
    failed = ["prefect.flow-run.Failed", "prefect.flow-run.Crashed"]
    return [
        _document(
            name, does, {"posture": "Reactive", "expect": events, "within": 0, "match": _resource(resource)}, call, tags=(TAG,)
        )
        for name, does, events, resource in (
            (FAILED, "Calls the webhook for a run that failed or crashed", failed, RUNS),
            (REFUSED, "Calls the webhook for what a person should know of a release", [*TOLD], "genwright.model.*"),
        )
    ]


def event_document(name: str, event: str, *, deployment: str) -> Document:
    """The automation that runs a deployment, by its id, at each event of a name; the slot of the run is the event's id."""
    # What a run of the brief emits itself, as genwright.champion.promoted, is no reason to run it again.
    own = {"prefect.resource.id": [f"!genwright.model.{name}"]} if event.startswith("genwright.") else {}
    slot = {"__prefect_kind": "jinja", "template": "{{ event.id }}"}
    trigger = {"type": "event", "posture": "Reactive", "expect": [event], "threshold": 1, "within": 0, "match": own}
    action = {"type": "run-deployment", "source": "selected", "deployment_id": deployment}
    return {
        "name": f"{OF_SCHEDULES}{name}",
        "description": f"Retrains {name} at each {event}; `genwright schedule` wrote it.",
        "tags": [TAG],
        "trigger": trigger,
        "actions": [action | {"parameters": {"trigger": "event", "slot": slot}}],
    }


def _document(name: str, does: str, trigger: Document, action: Document, *, tags: tuple[str, ...]) -> Document:
    of_ours = {"prefect.resource.role": "tag", "prefect.resource.id": [f"prefect.tag.{tag}" for tag in tags]}
    own = {"type": "event", "for_each": ["prefect.resource.id"], "threshold": 1, "match_related": of_ours}
    about = {"name": name, "description": f"{does}; `genwright automations` wrote it.", "tags": [TAG]}
    return about | {"trigger": own | trigger, "actions": [action]}


def _resource(kind: str) -> Document:
    return {"prefect.resource.id": [kind]}


def summary(document: Document) -> str:
    """What an automation does, as its description begins."""
    return str(document["description"]).partition(";")[0]


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether `genwright automations` wrote an automation of the server."""
    return str(found["name"]).startswith(PREFIX)


def is_as_asked(found: Any, asked: Any) -> bool:
    """Whether what a server has says what was asked; it adds ids and defaults, and gives sets in any order. Replacing an
    automation forgets the runs that it waits for, so one that is as it should be is left alone."""
    if isinstance(asked, dict):
        return isinstance(found, dict) and all(is_as_asked(found.get(key), value) for key, value in asked.items())
    if isinstance(asked, list) or isinstance(found, list):  # a list of one may be kept as that one, and the other way round
        asked, mine = (each if isinstance(each, list) else [each] for each in (asked, found))
        return len(mine) == len(asked) and all(any(is_as_asked(each, one) for each in mine) for one in asked)
    if isinstance(asked, int) and not isinstance(asked, bool):
        return isinstance(found, (int, float)) and float(found) == asked
    return bool(found == asked)


def missing(found: Sequence[Mapping[str, Any]], *, webhook: bool) -> Iterator[str]:
    """The names of the automations that a server lacks, or that a person turned off. `webhook`: whether people are to be told."""
    on = {str(each["name"]) for each in found if each["enabled"]}
    yield from (name for name in (CRASH, *((FAILED, REFUSED) if webhook else ())) if name not in on)
