"""What counts as done: a record that can be read and whose things still exist; and what makes a run another run."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import BriefError, Conflict, StorageError, TrainingFailed
from components.core.record import Record
from components.pipeline.stage_cache import load_or_run, recall


class Answer(Record):
    value: int


class Stage:
    """Counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> Answer:
        self.runs += 1
        return Answer(value=self.runs)


def test_a_stage_runs_once_while_what_it_made_holds(tmp_path: Path) -> None:
    stage, path = Stage(), tmp_path / "answer.json"
    assert [load_or_run(path, Answer, stage).value for _ in range(3)] == [1, 1, 1]
    assert load_or_run(path, Answer, stage, is_valid=lambda record: record.value > 1).value == 2
    assert load_or_run(path, Answer, stage).value == 2
    path.unlink()
    assert load_or_run(path, Answer, stage).value == 3
    assert stage.runs == 3


def test_a_stage_that_fails_leaves_no_record_and_keeps_the_old_one(tmp_path: Path) -> None:
    def fails() -> Answer:
        raise TrainingFailed("the loss is nan")

    with pytest.raises(TrainingFailed):
        load_or_run(tmp_path / "new.json", Answer, fails)
    Answer(value=1).write(tmp_path / "old.json")
    with pytest.raises(TrainingFailed):
        load_or_run(tmp_path / "old.json", Answer, fails, is_valid=lambda record: False)
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert recall(tmp_path / "old.json", Answer) == Answer(value=1)


@given(st.one_of(st.binary(max_size=40), st.just(b'{"value": 1, "more": 2}'), st.just(b'{"value": "one"}'), st.just(b"{}")))
def test_what_is_no_record_is_made_again(tmp_path_factory: pytest.TempPathFactory, found: bytes) -> None:
    path = tmp_path_factory.mktemp("memo") / "answer.json"
    path.write_bytes(found)
    try:
        valid = isinstance(json.loads(found), dict) and Answer.model_validate_json(found)
    except ValueError:
        valid = None
    assert recall(path, Answer) == (valid or None)
    assert load_or_run(path, Answer, lambda: Answer(value=7)) == (valid or Answer(value=7))


def test_brief_data_and_package_each_make_another_run(a_run: Any) -> None:
    other = [
        a_run.model_copy(update={"genwright": "0.0.0"}),
        a_run.model_copy(update={"dataset": a_run.dataset.model_copy(update={"md5": "f" * 32})}),
        *(
            a_run.model_copy(update={"brief": a_run.brief.model_copy(update=change)})
            for change in ({"seed": 1}, {"goal": "quality"}, {"name": "other"})
        ),
    ]
    assert len({a_run.key, *(run.key for run in other)}) == 1 + len(other)
    same = {"dataset": a_run.dataset.model_copy(update={"rev": "0" * 40, "path": "/elsewhere"})}
    assert a_run.model_copy(update=same).key == a_run.key  # the same bytes at another commit, on another machine


@pytest.mark.parametrize(
    ("error", "again"), [(StorageError("x"), True), (Conflict("x"), True), (BriefError("x"), False), (ValueError("x"), False)]
)
def test_only_what_passes_by_itself_is_retried(error: Exception, again: bool) -> None:
    from prefect.states import Failed

    from flows.tasks import passing

    assert passing(StorageError, Conflict)(None, None, Failed(data=error)) is again
