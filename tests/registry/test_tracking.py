"""One MLflow run, by id: written cheaply, resumed by another process, ended when its process is gone."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
import pytest
from PIL import Image

from components.core.errors import Interrupted, RegistryError, TrainingFailed
from components.core.protocols import Tracker
from components.registry.metric_buffer import BATCH, MetricBuffer, Row
from components.registry.mlflow_store import connect
from components.registry.owner import ENDED_BY, HOST, PID, SEEN_BY, STARTED, reap
from components.registry.tracking import MlflowTracker, start_run, system_sampler


def points(tracking_uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in connect(tracking_uri).get_metric_history(run_id, key))


def status(tracking_uri: str, run_id: str) -> str:
    return str(connect(tracking_uri).get_run(run_id).info.status)


def test_what_is_logged_is_there(tracking_uri: str, run_id: str, tmp_path: Path) -> None:
    tracker: Tracker = MlflowTracker(tracking_uri, run_id)
    assert isinstance(tracker, MlflowTracker)
    tracker.params({f"p{i}": i for i in range(150)})
    for step in range(3):
        tracker.metrics({"loss": 1.0 / (step + 1), "nan": float("nan")}, step=step)
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    tracker.image("samples", pixels, step=7)
    tracker.image("rgb", np.zeros((4, 4, 3), np.uint8), step=0)
    (tmp_path / "page.html").write_text("<p>page</p>")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    tracker.artifact(tmp_path / "page.html")
    tracker.artifact(tmp_path / "folder", "kept")
    tracker.finish()
    run = connect(tracking_uri).get_run(run_id)
    assert len(run.data.params) == 150
    assert run.data.tags["brief"] == "b1"
    assert points(tracking_uri, run_id, "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    kept = tmp_path / "artifacts" / "digits" / run_id / "artifacts"
    with Image.open(kept / "samples" / "00000007.png") as image:
        assert np.array_equal(np.asarray(image.convert("L"))[..., None], pixels)
    assert (kept / "page.html").samefile(tmp_path / "page.html")  # written once
    assert (kept / "kept" / "a.txt").read_text() == "a"
    assert run.info.status == "FINISHED"
    assert mlflow.active_run() is None


def test_a_file_that_is_logged_again_is_replaced_and_never_written_into(tracking_uri: str, run_id: str, tmp_path: Path) -> None:
    tracker = MlflowTracker(tracking_uri, run_id)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.html").write_text(name)
        tracker.artifact(tmp_path / name, "proof")
    assert (tmp_path / "one" / "page.html").read_text() == "one"
    kept = tmp_path / "artifacts" / "digits" / run_id / "artifacts" / "proof"
    assert [(path.name, path.read_text()) for path in kept.iterdir()] == [("page.html", "two")]
    assert [each.path for each in connect(tracking_uri).list_artifacts(run_id, "proof")] == ["proof/page.html"]


def test_who_left_a_run_to_another_neither_writes_nor_ends_it(tracking_uri: str, run_id: str) -> None:
    with MlflowTracker(tracking_uri, run_id) as one:
        one.metrics({"loss": 1.0}, step=1)
        one.flush()
        one.leave()
        one.metrics({"loss": 2.0}, step=2)
    assert (status(tracking_uri, run_id), points(tracking_uri, run_id, "loss")) == ("RUNNING", [(1, 1.0)])


def test_the_data_version_is_an_input_of_the_run(tracking_uri: str, run_id: str) -> None:
    tracker = MlflowTracker(tracking_uri, run_id)
    for name, context in (("digits/train", "training"), ("digits/validation", "evaluation")):
        for _ in range(2):  # a run that is begun again logs it again
            source = {"uri": "repo@1234:data/digits", "md5": "a" * 32}
            tracker.dataset(name, digest="a" * 32, source=source, profile={"items": 5}, context=context)
    inputs = connect(tracking_uri).get_run(run_id).inputs.dataset_inputs
    told = {
        each.dataset.name: (each.dataset.digest, each.dataset.source, each.dataset.profile, each.tags[0].value) for each in inputs
    }
    same = ("a" * 32, json.dumps(source), '{"items": 5}')
    assert told == {"digits/train": (*same, "training"), "digits/validation": (*same, "evaluation")}


def test_a_run_says_who_began_it_why_and_what_it_comes_from(tracking_uri: str, run_id: str, tmp_path: Path) -> None:
    told = {"tags": {"teacher": "digits/3"}, "artifact_root": tmp_path, "who": "ada", "note": "w" * 9000, "parent": run_id}
    student = start_run(tracking_uri, experiment="fast", name="student of digits/3", **told)
    client = connect(tracking_uri)
    taught = client.create_logged_model(client.get_run(run_id).info.experiment_id, source_run_id=run_id)
    for _ in range(2):
        MlflowTracker(tracking_uri, student).begins_with(taught.model_id)
    run = client.get_run(student)
    tags = run.data.tags
    assert (run.info.run_name, tags["mlflow.user"], tags["mlflow.parentRunId"]) == ("student of digits/3", "ada", run_id)
    assert tags["mlflow.note.content"].startswith("www")  # as much of it as MLflow takes
    assert {each.model_id for each in run.inputs.model_inputs} == {taught.model_id}
    (found,) = client.search_runs([run.info.experiment_id], filter_string="tags.teacher = 'digits/3'")
    assert found.info.run_id == student


def test_a_long_parameter_is_cut_and_told_apart(tracking_uri: str, run_id: str) -> None:
    tracker = MlflowTracker(tracking_uri, run_id)
    tracker.params({"whole": "x" * 6000, "one": "x" * 6001, "other": "x" * 7000 + "y"})
    kept = connect(tracking_uri).get_run(run_id).data.params
    assert kept["whole"] == "x" * 6000
    assert "(6001 characters, sha256 " in kept["one"]
    assert max(map(len, kept.values())) <= 6000
    assert kept["one"][-17:] != kept["other"][-17:]
    tracker.params({"one": "x" * 6001})  # the same again
    with pytest.raises(RegistryError, match="Changing param values"):
        tracker.params({"one": "x" * 6000 + "z"})


def test_logging_a_metric_writes_nothing_by_itself() -> None:
    written: list[int] = []
    buffer = MetricBuffer(lambda rows: written.append(len(rows)), every_s=3600)
    for step in range(2500):
        buffer.add({"loss": 0.0}, step=step)
    assert written == []
    buffer.close()
    assert written == [BATCH, BATCH, 500]


def test_rows_outlive_a_tracker_that_is_away() -> None:
    away, kept = [True], list[Row]()

    def write(rows: Any) -> None:
        if away[0]:
            raise RegistryError("away")
        kept.extend(rows)

    buffer = MetricBuffer(write, every_s=0.01)
    buffer.add({"loss": 1.0}, step=1)
    buffer.add({"loss": 2.0}, step=2)
    with pytest.raises(RegistryError, match="away"):
        buffer.flush()
    assert buffer._thread is not None
    assert buffer._thread.is_alive()
    away[0] = False
    buffer.close()
    assert [(row.step, row.value) for row in kept] == [(1, 1.0), (2, 2.0)]


def test_the_thread_writes_on_its_own() -> None:
    kept: list[Row] = []
    buffer = MetricBuffer(kept.extend, every_s=0.01)
    buffer.add({"loss": 1.0}, step=1)
    deadline = time.monotonic() + 30
    while not kept and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept[0][:2] == ("loss", 1.0)
    buffer.close()


def test_a_resumed_run_goes_on_without_doubles_or_gaps(tracking_uri: str, run_id: str) -> None:
    with MlflowTracker(tracking_uri, run_id) as tracker:
        for step in range(5):
            tracker.metrics({"loss": float(step)}, step=step)
    assert status(tracking_uri, run_id) == "FINISHED"
    with MlflowTracker(tracking_uri, run_id) as tracker:
        assert status(tracking_uri, run_id) == "RUNNING"
        for step in range(3, 8):  # the checkpoint was older than the last point
            tracker.metrics({"loss": float(step), "new": 0.0}, step=step)
    assert points(tracking_uri, run_id, "loss") == [(step, float(step)) for step in range(8)]
    assert len(points(tracking_uri, run_id, "new")) == 5
    cpu = points(tracking_uri, run_id, "system/cpu_utilization_percentage")
    assert [step for step, _ in cpu] == list(range(len(cpu)))
    assert len(cpu) >= 2  # one from each process at least


def test_system_metrics_have_what_mlflow_shows() -> None:
    values = system_sampler()()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(values)
    assert 0 < values["system/system_memory_usage_percentage"] <= 100


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (ValueError("x"), "FAILED"),
        (TrainingFailed("the loss is not finite"), "FAILED"),
        (Interrupted("training was stopped by SIGTERM"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
    ],
    ids=repr,
)
def test_a_run_ends_as_its_process_did(tracking_uri: str, run_id: str, error: BaseException, ends: str) -> None:
    with pytest.raises(type(error)), MlflowTracker(tracking_uri, run_id):
        raise error
    assert status(tracking_uri, run_id) == ends


def test_sigterm_ends_the_run(tracking_uri: str, forks: Any, tmp_path: Path) -> None:
    job = {"tracking_uri": tracking_uri, "artifacts": str(tmp_path), "tell": str(tmp_path / "id")}
    assert forks.run("start_run", **job, signal=int(signal.SIGTERM)) == 143
    assert status(tracking_uri, (tmp_path / "id").read_text()) == "KILLED"


def test_the_reaper_ends_only_what_is_dead(tracking_uri: str, run_id: str, forks: Any, tmp_path: Path) -> None:
    job = {"tracking_uri": tracking_uri, "artifacts": str(tmp_path), "tell": str(tmp_path / "id")}
    assert forks.run("start_run", **job, signal=int(signal.SIGKILL)) == -9
    dead = (tmp_path / "id").read_text()
    assert status(tracking_uri, dead) == "RUNNING"
    assert points(tracking_uri, dead, "loss")[-1] == (9, 9.0)
    client = connect(tracking_uri)
    reused, elsewhere, foreign = (
        start_run(tracking_uri, experiment="x", name="n", tags={}, artifact_root=tmp_path) for _ in "abc"
    )
    client.set_tag(reused, STARTED, str(psutil.Process().create_time() - 100))  # our pid, but another start
    boxed, rebooted = (start_run(tracking_uri, experiment="x", name="n", tags={}, artifact_root=tmp_path) for _ in "ab")
    for one in (boxed, rebooted):  # a container that shares the host's name, or this machine before it was started again
        client.set_tag(one, SEEN_BY, "another boot pid:[1]")
        client.set_tag(one, PID, "999999999")
    started_ms = client.get_run(rebooted).info.start_time - 3_600_000
    with sqlite3.connect(tracking_uri.removeprefix("sqlite:///")) as database:
        database.execute("update runs set start_time = ? where run_uuid = ?", (started_ms, rebooted))
    fresh = start_run(tracking_uri, experiment="x", name="n", tags={}, artifact_root=tmp_path)
    client.set_tag(fresh, SEEN_BY, "another boot pid:[1]")
    with sqlite3.connect(tracking_uri.removeprefix("sqlite:///")) as database:
        database.execute("update runs set start_time = ? where run_uuid = ?", (started_ms, fresh))
    client.log_metric(fresh, "system/cpu_utilization_percentage", 1.0)  # now: somebody is at it
    client.set_tag(elsewhere, HOST, "another-host")
    client.set_tag(elsewhere, PID, "999999999")
    client.delete_tag(foreign, PID)
    assert reap(tracking_uri, experiment="no such") == ()
    assert reap(tracking_uri, experiment="fork") == (dead,)
    assert set(reap(tracking_uri)) == {reused, rebooted}
    everyone = (dead, reused, elsewhere, foreign, boxed, rebooted, fresh, run_id)
    assert {one: status(tracking_uri, one) for one in everyone} == {
        dead: "KILLED",
        reused: "KILLED",
        elsewhere: "RUNNING",
        foreign: "RUNNING",
        boxed: "RUNNING",
        rebooted: "KILLED",
        fresh: "RUNNING",
        run_id: "RUNNING",  # ours: alive
    }
    assert reap(tracking_uri) == ()


def test_a_reaped_run_can_be_resumed(tracking_uri: str, run_id: str) -> None:
    connect(tracking_uri).set_tag(run_id, PID, "999999999")
    assert reap(tracking_uri) == (run_id,)
    assert connect(tracking_uri).get_run(run_id).data.tags[ENDED_BY] == "reaper: its process was gone"
    MlflowTracker(tracking_uri, run_id).resume()
    assert ENDED_BY not in connect(tracking_uri).get_run(run_id).data.tags
    assert status(tracking_uri, run_id) == "RUNNING"
    assert connect(tracking_uri).get_run(run_id).data.tags[PID] == str(os.getpid())
    assert reap(tracking_uri) == ()


def test_mistakes_are_one_line(tracking_uri: str, run_id: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"run nothing: MLflow says: .*not found") as caught:
        MlflowTracker(tracking_uri, "nothing")
    assert "\n" not in str(caught.value)
    tracker = MlflowTracker(tracking_uri, run_id)
    tracker.params({"lr": 1})
    with pytest.raises(RegistryError, match="Changing param values is not allowed"):
        tracker.params({"lr": 2})
    client = connect(tracking_uri)
    client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)
    with pytest.raises(RegistryError, match="experiment 'digits' was deleted in MLflow; restore it"):
        start_run(tracking_uri, experiment="digits", name="n", tags={}, artifact_root=tmp_path)


@pytest.mark.slow
def test_a_new_store_is_made_quietly(tmp_path: Path) -> None:
    """In a process of its own, from a folder of its own: nothing printed, nothing left but the store."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from components.registry.tracking import start_run, MlflowTracker\n"
        "uri, root = sys.argv[1:]\n"
        "with MlflowTracker(uri, start_run(uri, experiment='e', name='n', tags={}, artifact_root=Path(root))) as tracker:\n"
        "    tracker.metrics({'loss': 1.0}, step=0)\n"
    )
    (tmp_path / "cwd").mkdir()
    command = [sys.executable, "-W", "error:::components", "-c", script]
    command += [f"sqlite:///{tmp_path / 'home' / 'new' / 'mlflow.db'}", str(tmp_path / "artifacts")]
    done = subprocess.run(command, cwd=tmp_path / "cwd", capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((tmp_path / "cwd").iterdir()) == []
    assert {path.name for path in (tmp_path / "home" / "new").iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
