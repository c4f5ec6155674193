"""Artifacts by their digests, records under their keys: written once, found on every machine."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import Conflict, RunError, StorageError, TrainingFailed
from components.core.files import write_whole
from components.core.record import Record
from components.core.records import Artifact
from components.delivery.local import LocalStore
from components.pipeline.workspace import Workspace

KEY = "runs/digits/k/answer.json"


class Answer(Record):
    value: int


class Elsewhere(LocalStore):
    """A store whose objects are no files of this machine, as those of S3 are not."""

    def path_of(self, key: str) -> None:  # type: ignore[override]
        return None


class Stage:
    """Counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> Answer:
        self.runs += 1
        return Answer(value=self.runs)


@pytest.fixture(params=[LocalStore, Elsewhere])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Workspace]:
    """Workspaces of several machines that share one store."""
    return lambda name: Workspace(request.param(tmp_path / "store"), tmp_path / name / "artifacts")


def test_what_one_machine_puts_another_opens(machines: Any, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    artifact = machines("one").put(tmp_path / "model.onnx")
    assert (artifact.name, artifact.size_bytes) == ("model.onnx", 5)
    path = machines("two").open(artifact)
    assert (path.name, path.read_bytes()) == ("model.onnx", b"graph")
    assert str(tmp_path) not in artifact.model_dump_json()


def test_the_cache_of_a_machine_may_be_deleted(machines: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"page")
    artifact = machines("one").put(tmp_path / "page.html")
    two = machines("two")
    path = two.open(artifact)
    if path.is_relative_to(two.cache):
        path.unlink()
    assert two.open(artifact).read_bytes() == b"page"


def test_a_folder_store_keeps_the_file_itself_and_copies_nothing(tmp_path: Path) -> None:
    workspace = Workspace(LocalStore(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "weights").write_bytes(b"weights")
    path = workspace.open(workspace.put(tmp_path / "weights"))
    assert path.samefile(tmp_path / "weights")
    assert not (tmp_path / "cache").exists()
    assert not list((tmp_path / "store" / ".partial").iterdir())


def test_a_disk_that_links_nothing_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuses)
    workspace = Workspace(LocalStore(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "weights").write_bytes(b"weights")
    path = workspace.open(workspace.put(tmp_path / "weights"))
    assert path.read_bytes() == b"weights"
    assert not path.samefile(tmp_path / "weights")


def test_a_link_is_the_file_itself_and_may_be_replaced(machines: Any, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    workspace = machines("one")
    artifact = workspace.put(tmp_path / "weights")
    workspace.link(artifact, tmp_path / "link")
    assert (tmp_path / "link").samefile(workspace.open(artifact))
    write_whole(tmp_path / "link", b"another")
    assert workspace.open(artifact).read_bytes() == (tmp_path / "weights").read_bytes() == b"weights"


def test_what_is_cut_short_in_the_store_is_made_again(tmp_path: Path) -> None:
    stage, workspace = Stage(), Workspace(LocalStore(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "graph").write_bytes(b"graph")
    artifact = workspace.put(tmp_path / "graph")
    for expected in (1, 1):
        assert workspace.read_or_make(KEY, Answer, stage, is_valid=lambda _: workspace.holds(artifact)).value == expected
    (tmp_path / "store" / "artifacts" / artifact.sha256 / "graph").write_bytes(b"gr")
    assert workspace.read_or_make(KEY, Answer, stage, is_valid=lambda _: workspace.holds(artifact)).value == 2


@pytest.mark.parametrize("damage", [b"gr", b"grape"])
def test_what_is_damaged_in_a_folder_is_refused_and_replaced_by_whoever_makes_it_again(tmp_path: Path, damage: bytes) -> None:
    workspace = Workspace(LocalStore(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "graph").write_bytes(b"graph")
    artifact = workspace.put(tmp_path / "graph")
    held = workspace.open(artifact)
    held.unlink()
    held.write_bytes(damage)
    for use in (workspace.open, lambda artifact: workspace.link(artifact, tmp_path / "copy")):
        with pytest.raises(
            RunError, match=r"graph: other bytes than its digest says; remove it from the store, and run the stage"
        ):
            use(artifact)
    assert not (tmp_path / "copy").exists()
    assert workspace.put(tmp_path / "graph") == artifact
    assert workspace.open(artifact).read_bytes() == b"graph"


def test_what_is_damaged_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    workspace = Workspace(Elsewhere(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "graph").write_bytes(b"graph")
    artifact = workspace.put(tmp_path / "graph")
    workspace.open(artifact).write_bytes(b"grape")
    assert workspace.open(artifact).read_bytes() == b"graph"


def test_other_bytes_than_the_digest_says_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(Elsewhere(tmp_path / "store"), tmp_path / "cache")
    (tmp_path / "weights").write_bytes(b"weights")
    artifact = workspace.put(tmp_path / "weights")
    (tmp_path / "store" / "artifacts" / artifact.sha256 / "weights").write_bytes(b"damaged")
    with pytest.raises(RunError, match="other bytes than its digest says; remove it from the store"):
        workspace.open(artifact)
    lost = Artifact(name="weights", sha256="0" * 64, size_bytes=1)
    with pytest.raises(StorageError, match="no such object"):
        workspace.open(lost)


def test_a_stage_runs_once_on_all_machines_while_what_it_made_is_there(machines: Any, tmp_path: Path) -> None:
    stage = Stage()
    assert [machines(name).read_or_make(KEY, Answer, stage).value for name in ("one", "two", "one")] == [1, 1, 1]
    (tmp_path / "graph").write_bytes(b"graph")
    held, lost = machines("one").put(tmp_path / "graph"), Artifact(name="graph", sha256="0" * 64, size_bytes=1)
    assert machines("two").read_or_make(KEY, Answer, stage, is_valid=lambda _: machines("two").holds(held)).value == 1
    assert machines("two").read_or_make(KEY, Answer, stage, is_valid=lambda _: machines("two").holds(held, lost)).value == 2
    assert machines("one").read(KEY, Answer) == Answer(value=2)


def test_the_first_to_write_counts(machines: Any) -> None:
    one, two = machines("one"), machines("two")

    def slow() -> Answer:
        one.read_or_make(KEY, Answer, lambda: Answer(value=1))
        return Answer(value=2)

    assert two.read_or_make(KEY, Answer, slow) == Answer(value=1)


def test_a_stage_that_fails_leaves_no_record_and_keeps_the_old_one(machines: Any) -> None:
    def fails() -> Answer:
        raise TrainingFailed("the loss is nan")

    workspace = machines("one")
    with pytest.raises(TrainingFailed):
        workspace.read_or_make(KEY, Answer, fails)
    assert workspace.read(KEY, Answer) is None
    workspace.write(KEY, Answer(value=1))
    with pytest.raises(TrainingFailed):
        workspace.read_or_make(KEY, Answer, fails, is_valid=lambda _: False)
    assert workspace.read(KEY, Answer) == Answer(value=1)


def test_what_was_written_while_it_was_checked_is_not_overwritten(machines: Any) -> None:
    one, two = machines("one"), machines("two")
    one.write(KEY, Answer(value=1))
    with pytest.raises(Conflict):
        one.write(KEY, Answer(value=2), check=lambda: two.write(KEY, Answer(value=3)))

    def refuses() -> None:
        raise RunError("another production took over")

    with pytest.raises(RunError, match="took over"):
        one.write(KEY, Answer(value=2), check=refuses)
    assert one.read(KEY, Answer) == Answer(value=3)


@settings(deadline=None)  # a busy disk is no failure
@given(st.one_of(st.binary(max_size=40), st.just(b'{"value": 1, "more": 2}'), st.just(b'{"value": "one"}'), st.just(b"{}")))
def test_what_is_no_record_is_made_again(tmp_path_factory: pytest.TempPathFactory, found: bytes) -> None:
    folder = tmp_path_factory.mktemp("workspace")
    workspace = Workspace(LocalStore(folder / "store"), folder / "cache")
    workspace.store.put_if_absent(KEY, found)
    try:
        valid = isinstance(json.loads(found), dict) and Answer.model_validate_json(found)
    except ValueError:
        valid = None
    assert workspace.read(KEY, Answer) == (valid or None)
    assert workspace.read_or_make(KEY, Answer, lambda: Answer(value=7)) == (valid or Answer(value=7))
    assert workspace.read(KEY, Answer) == (valid or Answer(value=7))
