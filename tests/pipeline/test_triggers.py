"""A slot is run once, however often it is fired; what may pass leaves it free."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from components.core.errors import BriefError, GateRefused, InputError, SettingsError, StorageError, TrainingFailed
from components.pipeline.backends import Backends
from components.pipeline.endings import Ending, ending_of
from components.pipeline.triggers import Slot, Trigger, once, retrain, trigger_of
from flows.settings import Settings

AT = datetime(2026, 11, 30, 3, tzinfo=UTC)
PROMOTED = Ending("Promoted", "digits version 1 was produced and promoted")


@pytest.fixture
def homes(tmp_path: Path) -> list[Backends]:
    """Two machines that share a store."""
    return [Backends(Settings(home=tmp_path / name, store=str(tmp_path / "store"))) for name in ("one", "two")]


def slot(md5: str = "a" * 32, at: datetime | None = AT, by: str = "the flow run calm-owl") -> Slot:
    trigger = Trigger(kind="new-data" if at is None else "cron", at=at, by=by)
    return Slot(model="digits", data_md5=md5, trigger=trigger)


def look(base: str, md5: str = "a" * 32) -> Slot:
    return Slot(model="digits", data_md5=md5, base=base, trigger=Trigger(kind="new-base"))


def event(number: int, md5: str = "a" * 32) -> Slot:
    return Slot(model="digits", data_md5=md5, trigger=trigger_of("event", str(UUID(int=number)), "the flow run calm-owl"))


def never() -> Ending:
    pytest.fail("it was run again")


def raising(error: BaseException) -> Callable[[], Ending]:
    def work() -> Ending:
        raise error

    return work


def test_what_fires_a_slot_later_does_nothing_and_says_whose_it_was(homes: list[Backends]) -> None:
    assert once(slot(), homes[0], lambda: PROMOTED) is PROMOTED
    ending = once(slot(by="another"), homes[1], never)
    assert ending.name == "Unchanged"
    assert ending.sentence.startswith(
        "nothing to do: the slot 2026-11-30 03:00 UTC on data aaaaaaaa of digits was run by the flow run calm-owl and ended "
    )
    assert ending.sentence.endswith(" as Promoted: digits version 1 was produced and promoted")


def test_another_time_another_data_version_and_another_model_are_other_slots(homes: list[Backends]) -> None:
    others = (slot(at=AT.replace(hour=4)), slot("b" * 32), slot(at=None), slot().model_copy(update={"model": "letters"}))
    for each in (slot(), *others):
        assert once(each, homes[0], lambda: PROMOTED) is PROMOTED
        assert once(each, homes[1], never).name == "Unchanged"


def test_data_that_comes_back_is_new_data(homes: list[Backends]) -> None:
    for md5 in ("a" * 32, "b" * 32, "a" * 32):
        assert once(slot(md5, None), homes[0], lambda: PROMOTED) is PROMOTED
        assert once(slot(md5, None), homes[1], never).name == "Unchanged"


def test_a_base_that_comes_back_is_a_new_base_and_new_data_is_none(homes: list[Backends]) -> None:
    for base in ("b" * 64, "c" * 64, "b" * 64):
        assert once(look(base), homes[0], lambda: PROMOTED) is PROMOTED
        for again in (look(base), look(base, "d" * 32)):
            ending = once(again, homes[1], never)
            assert ending.name == "Unchanged"
            assert ending.sentence.startswith(f"nothing to do: base {base[:8]} of digits was run and ended ")
    assert once(slot("a" * 32, None), homes[0], lambda: PROMOTED) is PROMOTED, "a look for new data is another slot"


def test_an_event_is_one_on_whichever_data_it_comes_again(homes: list[Backends]) -> None:
    assert once(event(1), homes[0], lambda: PROMOTED) is PROMOTED
    ending = once(event(1, "b" * 32), homes[1], never)
    assert ending.name == "Unchanged"
    assert ending.sentence.startswith(f"nothing to do: event {UUID(int=1)} of digits was run by the flow run calm-owl and ended ")
    assert once(event(2), homes[1], lambda: PROMOTED) is PROMOTED


def test_of_many_that_fire_it_at_once_one_runs(homes: list[Backends]) -> None:
    begun, ended = threading.Event(), threading.Event()
    endings: list[Ending] = []

    def work() -> Ending:
        begun.set()
        assert ended.wait(60)
        return PROMOTED

    first = threading.Thread(target=lambda: endings.append(once(slot(), homes[0], work)))
    first.start()
    assert begun.wait(60)
    others = [once(slot(), homes[number % 2], never) for number in range(15)]
    ended.set()
    first.join()
    assert endings == [PROMOTED]
    assert {each.name for each in others} == {"Unchanged"}
    assert {each.sentence.rpartition(" of digits ")[2] for each in others} == {"is at it"}


@pytest.mark.parametrize(
    ("error", "name", "again"),
    [
        (StorageError("s3://bucket: no answer"), "Failed", True),
        (BriefError("brief: name: ..."), "Failed", True),
        (KeyboardInterrupt(), "Cancelled", True),
        (TrainingFailed("training diverged"), "Failed", False),
        (GateRefused("digits version 1 stays a candidate"), "Refused", False),
    ],
)
def test_what_may_pass_and_costs_no_training_leaves_the_slot_free(
    error: BaseException, name: str, again: bool, homes: list[Backends]
) -> None:
    ending = once(slot(), homes[0], raising(error))
    assert (ending.name, ending.error) == (name, error)
    assert once(slot(by="another"), homes[1], lambda: PROMOTED).name == ("Promoted" if again else "Unchanged")
    if name == "Failed":  # the same run, tried again by a person
        assert once(slot(), homes[1], lambda: PROMOTED).name == ("Unchanged" if again else "Promoted")


def test_the_slot_of_a_run_that_was_killed_is_free(homes: list[Backends], tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from flows.settings import Settings; from test_triggers import slot;"
        "from components.pipeline.backends import Backends; from components.pipeline.triggers import once;"
        "once(slot(), Backends(Settings(home=Path(sys.argv[1]), store=sys.argv[2])), lambda: os._exit(9))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "three"), str(tmp_path / "store")]
    paths = {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}"}
    assert subprocess.run(command, check=False, env=paths).returncode == 9
    assert once(slot(), homes[0], lambda: PROMOTED) is PROMOTED


@pytest.mark.parametrize(
    ("kind", "at", "said"),
    [
        ("noon", None, "trigger 'noon'; allowed: hand, cron, new-data, new-base, event"),
        ("event", None, "slot 'None'; allowed: the id of an event"),
        ("event", "../1", "slot '../1'; allowed: the id of an event"),
        ("cron", "monday", "slot 'monday'; allowed: a time with its zone"),
        ("cron", "2026-11-30T03:00:00", "slot '2026-11-30T03:00:00'; allowed: a time with its zone"),
    ],
)
def test_a_trigger_that_is_none_is_refused(kind: str, at: str | None, said: str) -> None:
    with pytest.raises(InputError) as refused:
        trigger_of(kind, at, "")
    assert str(refused.value).startswith(said)


def test_the_time_of_a_slot_is_the_same_in_every_zone() -> None:
    berlin, utc = (slot().model_copy(update={"trigger": trigger_of("cron", each, "")}) for each in (
        "2026-11-30T04:00:00+01:00", "2026-11-30T03:00:00+00:00",
    ))  # fmt: skip
    assert berlin.name == utc.name


def test_a_home_in_the_clone_of_a_run_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(SettingsError, match=r"GENWRIGHT_HOME: \.genwright lies in the clone of this run"):
        retrain(Path("briefs/digits.yaml"), Trigger(), Backends(Settings(home=Path(".genwright"))), nothing, nothing)


def test_a_defect_is_no_ending() -> None:
    with pytest.raises(ZeroDivisionError):
        ending_of(raising(ZeroDivisionError()))
