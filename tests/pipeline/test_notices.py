"""What people hear of a run, and what a Prefect server does by itself about one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.pipeline import automations
from components.pipeline.automations import CRASH, FAILED, REFUSED, documents, event_document, is_as_asked, is_ours, missing
from components.pipeline.backends import Backends
from components.pipeline.endings import Ending, judged
from components.pipeline.notices import BUDGET, PROMOTED, PROPOSED, notices_of
from components.pipeline.notices import REFUSED as GATE
from components.pipeline.run import Produced, Run, Trained, record_key
from flows.settings import Settings

BLOCK = "4d4b7c29-6a0b-4a3c-9a5e-6a1c3f1a2b3c"


@pytest.fixture
def made(home: Path) -> tuple[Backends, Run, Produced]:
    backends = Backends(Settings(home=home))
    (key,) = [key for key in backends.store.list("runs/digits/") if key.endswith("/run.json")]
    run = backends.workspace.read(key, Run)
    assert run is not None
    produced = backends.workspace.read(record_key(run, "promote"), Produced)
    assert produced is not None
    return backends, run, produced


@pytest.mark.parametrize(
    ("changes", "verdict", "event"),
    [({}, "pass", PROMOTED), ({"promoted": False, "awaits": "approved"}, "pass", PROPOSED), ({"promoted": False}, "fail", GATE)],
)
def test_the_end_of_a_run_is_one_event_with_its_sentence(
    changes: dict[str, Any], verdict: str, event: str, made: tuple[Backends, Run, Produced]
) -> None:
    backends, run, produced = made
    first, *others = produced.gates.gates
    gates = produced.gates.model_copy(
        update={"verdict": verdict, "gates": (first.model_copy(update={"verdict": verdict}), *others)}
    )
    ending = judged(run, produced.model_copy(update=changes | {"gates": gates}))
    (notice,) = notices_of(ending, backends)
    assert (notice.event, notice.model, notice.sentence) == (event, "digits", ending.sentence)
    assert notice.details["version"] == 1
    assert notice.details["gates"] == ({first.gate: first.text} if verdict == "fail" else {})
    json.dumps(notice.details)


def test_nothing_done_is_nothing_to_tell(made: tuple[Backends, Run, Produced]) -> None:
    backends, run, produced = made
    for name in ("Unchanged", "Cancelled", "Failed"):
        assert [*notices_of(Ending(name, "why", run, produced), backends)] == []
    assert [*notices_of(Ending("Refused", "a gate"), backends)] == []


def test_a_reached_ceiling_is_told_of_the_run_that_reached_it(made: tuple[Backends, Run, Produced]) -> None:
    backends, run, produced = made
    trained = backends.workspace.read(record_key(run, "train"), Trained)
    assert trained is not None
    ended = {"stopped_by": "compute.minutes", "items_seen": 1200, "items_planned": 4000}
    checkpoint = trained.checkpoint.model_copy(update=ended)
    backends.workspace.write(record_key(run, "train"), trained.model_copy(update={"checkpoint": checkpoint}))
    reached, promoted = notices_of(judged(run, produced), backends)
    assert (reached.event, promoted.event) == (BUDGET, PROMOTED)
    assert reached.sentence == (
        "the training of digits was ended by compute.minutes after 1,200 of 4,000 items; the best weights were kept"
    )


SAID = ('a "quoted" word, a \\ and <b>', "two\nlines", "ünïcode {{ event }}")
PREFECTS_OWN = """
import json, sys
from prefect.server.events.schemas.automations import AutomationCreate, EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.user_templates import render_user_template_sync

asked = json.load(sys.stdin)
kept = [json.loads(AutomationCreate.model_validate(each).model_dump_json()) for each in asked["automations"]]
events = [ReceivedEvent.model_validate(each) for each in asked["events"]]
told = [render_user_template_sync(asked["payload"], {"event": event}) for event in events]
waits = [EventTrigger.model_validate(each) for each in asked["triggers"]]
heard = [[trigger.covers(event) and trigger.expects(event.event) for event in events] for trigger in waits]
json.dump({"kept": kept, "told": told, "heard": heard}, sys.stdout)
"""  # in a process of its own: once imported, Prefect keeps to the settings that it found


STARTS = [event_document(name, event, deployment=BLOCK) for name, event in (
    ("digits", "genwright.gate.refused"), ("letters", "genwright.gate.refused"), ("letters", "genwright.gate"),
)]  # fmt: skip
ASKED = [*documents(webhook_block=BLOCK, silent_s=120), *STARTS]


def event_of(said: str, payload: dict[str, Any]) -> dict[str, Any]:
    resource = {"prefect.resource.id": "genwright.model.digits", "prefect.resource.name": "odd-fox"}
    resource |= {"prefect.state-name": "Failed", "prefect.state-message": said}
    known = {"id": "4d4b7c29-6a0b-4a3c-9a5e-6a1c3f1a2b3c", "occurred": "2026-11-30T03:00:00+00:00", "related": []}
    return {"event": "genwright.gate.refused", "resource": resource, "payload": payload, **known}


@pytest.fixture(scope="module")
def prefects() -> dict[str, Any]:
    """What Prefect's own code makes of our documents and of what is to be told, which is said in a notice or in a state."""
    events = [event_of(said, payload) for said in SAID for payload in ({"sentence": said}, {"validated_state": {}})]
    asked = {
        "automations": ASKED,
        "events": events,
        "payload": automations.PAYLOAD,
        "triggers": [each["trigger"] for each in STARTS],
    }
    ran = subprocess.run(
        [sys.executable, "-c", PREFECTS_OWN], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_the_automations_are_what_prefect_takes(prefects: dict[str, Any]) -> None:
    """By its own schema, which forbids what it does not know; and what it keeps is seen to be as it was asked."""
    assert [each["name"] for each in ASKED if is_ours(each)] == [CRASH, FAILED, REFUSED]
    for each, kept in zip(ASKED, prefects["kept"], strict=True):
        assert is_as_asked(kept, each)
        longer = each | {"trigger": each["trigger"] | {"within": 77}}
        another = each | {"trigger": each["trigger"] | {"expect": [*each["trigger"]["expect"], "another"]}}
        assert not is_as_asked(kept, longer)
        assert not is_as_asked(kept, another)
    assert [each["name"] for each in documents(webhook_block=None)] == [CRASH]


def test_an_event_starts_the_briefs_that_name_it_and_not_the_one_it_came_from(prefects: dict[str, Any]) -> None:
    """By Prefect's own code: the events are genwright.gate.refused of digits."""
    digits, letters, shorter = (set(each) for each in prefects["heard"])
    assert (digits, letters, shorter) == ({False}, {True}, {False})


def test_what_the_webhook_hears_is_json_whatever_was_said(prefects: dict[str, Any]) -> None:
    told = [json.loads(each) for each in prefects["told"]]
    assert [each["text"] for each in told] == [text for said in SAID for text in (said, f"odd-fox is Failed: {said}")]
    assert {each["event"] for each in told} == {"genwright.gate.refused"}
    assert told[0]["details"] == {"sentence": SAID[0]}
    assert told[0]["occurred"].startswith("2026-11-30")


def test_an_order_of_silence_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(InputError, match="--silent-s 10; allowed: 35 or more"):
        documents(webhook_block=None, silent_s=10)


def test_missing_automations_are_named() -> None:
    found = [{"name": CRASH, "enabled": True}, {"name": FAILED, "enabled": False}, {"name": "theirs", "enabled": True}]
    assert [*missing(found, webhook=True)] == [FAILED, REFUSED]
    assert [*missing(found, webhook=False)] == []
    assert [*missing([], webhook=False)] == [CRASH]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "PREFECT_API_URL: names no Prefect server"),
        (("--webhook", "hooks.example.org/x"), 2, "no address; allowed: http://HOST/... or https://HOST/..."),
    ],
)
def test_without_a_server_or_an_address_one_line_says_what_to_do(
    arguments: tuple[str, ...], code: int, says: str, cli: Any
) -> None:
    cli("automations", *arguments).refused(code, says)
