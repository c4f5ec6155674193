"""Training that is killed, in its worker or in the process that waits for it; training that diverges; two at once."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.core import store_keys
from components.pipeline import stages
from components.pipeline.lease import Lease, lease
from components.pipeline.resolve import resolve
from components.pipeline.training import Tracked, saves_of
from components.registry.mlflow_store import connect
from components.training.state import load_state

pytestmark = pytest.mark.timeout(600)

ITEMS = 40_000  # some seven seconds of the small VAE


class Started:
    """`genwright produce` on its way, in a process that may be killed."""

    def __init__(self, road: Any, brief: Path) -> None:
        self.road = road
        self.log = brief.with_suffix(f".{time.monotonic_ns()}.log")
        with self.log.open("wb") as output:
            command = [sys.executable, "-m", "flows", "produce", str(brief)]
            self.process = subprocess.Popen(command, cwd=road.folder, env=road.variables(), stdout=output, stderr=output)

    def worker(self, number: int = 0) -> psutil.Process:
        """The worker of this number, once there is one."""
        found: list[psutil.Process] = []

        def look() -> bool:
            found[:] = [each for each in self._children() if _is_worker(each, number)]
            return bool(found)

        self.until(look)
        return found[0]

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []

    def until(self, true: Callable[[], bool], *, limit_s: float = 200) -> None:
        until = time.monotonic() + limit_s
        while not true():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def said(self) -> list[str]:
        """Its last words: what stands after the report on the decision and the progress of training."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("genwright:")]


def _is_worker(process: psutil.Process, number: int) -> bool:
    try:
        line = process.cmdline()
    except psutil.Error:  # one of the parent's short ones, which has just ended
        return False
    return "components.pipeline.worker" in line and line[-1] == str(number)


def _tracked(backends: Any) -> str:
    (key,) = [key for key in backends.store.list("runs/digits/") if key.endswith("/tracked.json")]
    return backends.workspace.read(key, Tracked).run_id


def wait_gone(process: psutil.Process) -> None:
    try:
        process.wait(60)
    except psutil.NoSuchProcess:
        return


@pytest.mark.slow
def test_a_killed_training_goes_on_in_the_same_run(first: Any, tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "road")
    brief = road.brief(compute={"items_seen": ITEMS, "device": "cpu", "threads": 1})
    path, backends = road.write(brief), road.backends()
    run = resolve(brief, backends)
    folder = stages.folder_of(run, backends.home, "train")
    client = connect(backends.settings.mlflow_uri)

    # The parent is killed: the worker notices, saves its state and ends.
    started = Started(road, path)
    worker = started.worker()
    started.until((folder / "train" / "best" / "checkpoint.json").exists)
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait()
    wait_gone(worker)
    state = load_state(folder / "train" / "state.safetensors")
    assert state is not None
    assert state["run"]["step"] > 0
    run_id = _tracked(backends)
    assert client.get_run(run_id).info.status == "FAILED"

    # The worker is killed, as the kernel does when memory runs out: one line, exit code 1, the run has ended.
    started = Started(road, path)
    started.worker().kill()
    assert started.process.wait(120) == 1
    assert started.said() == [
        "genwright: training was killed (SIGKILL), most likely for memory; lower override.config.batch_size, "
        "or run it again to go on"
    ]
    assert "Traceback" not in started.log.read_text()
    assert client.get_run(run_id).info.status == "FAILED"

    # The same again goes on where the saved state was, in the same MLflow run, to its end.
    with lease("digits", backends) as held:
        trained = stages.train(resolve(brief, backends), held, backends)
    assert trained.run_id == run_id
    assert client.get_run(run_id).info.status == "FINISHED"
    assert trained.checkpoint.steps_total > state["run"]["step"]
    assert (trained.checkpoint.stopped_by, trained.checkpoint.items_planned) == ("items_seen", ITEMS)
    assert trained.checkpoint.items_seen >= ITEMS
    seconds = [(each.step, each.value) for each in client.get_metric_history(run_id, "train/seconds")]
    assert sorted(seconds) == sorted(dict(seconds).items())  # every step once
    assert min(value for step, value in seconds if step > state["run"]["step"]) > state["run"]["spent_s"]


@pytest.mark.slow
def test_a_training_whose_lease_was_lost_is_stopped_in_one_line_and_changes_nothing(first: Any, tmp_path: Path) -> None:
    """Its process was not heard of for too long, and another machine has begun to go on with it."""
    road = first.road.beside(tmp_path / "road")
    brief = road.brief(compute={"items_seen": 10 * ITEMS, "device": "cpu", "threads": 1})
    path, backends = road.write(brief), road.backends()
    run = resolve(brief, backends)
    folder = stages.folder_of(run, backends.home, "train") / "train"
    started = Started(road, path)
    started.until((folder / "best" / "checkpoint.json").exists)
    held = backends.workspace.read(store_keys.lease("digits"), Lease)
    assert held is not None
    later = held.model_copy(update={"token": held.token + 1, "expires_s": time.time() + 600})
    backends.workspace.write(store_keys.lease("digits"), later)
    saves = saves_of(run, later, backends)
    saves.claim()
    named = backends.store.get(saves.name)

    assert started.process.wait(120) == 1
    (line,) = started.said()
    assert re.fullmatch(
        r"genwright: training was stopped at step \d+: digits: another production took over; run it again to go on", line
    )
    assert "Traceback" not in started.log.read_text()
    assert backends.store.get(saves.name) == named
    assert backends.workspace.read(store_keys.lease("digits"), Lease) == later
    assert connect(backends.settings.mlflow_uri).get_run(_tracked(backends)).info.status == "RUNNING"  # the other's now


@pytest.mark.nightly
def test_two_processes_train_and_when_one_is_killed_the_other_ends(first: Any, tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "road")
    brief = road.brief(compute={"items_seen": ITEMS // 3, "device": "cpu", "threads": 1, "workers": 2})
    path, backends = road.write(brief), road.backends()
    folder = stages.folder_of(resolve(brief, backends), backends.home, "train")

    started = Started(road, path)
    leader, other = started.worker(0), started.worker(1)
    started.until((folder / "train" / "best" / "checkpoint.json").exists)
    other.kill()
    assert started.process.wait(120) == 1
    assert started.said() == [
        "genwright: training was killed (SIGKILL), most likely for memory; lower override.config.batch_size, "
        "or run it again to go on"
    ]
    assert "Traceback" not in started.log.read_text()
    wait_gone(leader)

    with lease("digits", backends) as held:
        trained = stages.train(resolve(brief, backends), held, backends)
    history = connect(backends.settings.mlflow_uri).get_metric_history(trained.run_id, "train/processes")
    assert {each.value for each in history} == {2.0}
    assert trained.checkpoint.steps_total > 0


@pytest.mark.slow
def test_a_training_that_diverges_ends_in_one_line(first: Any, tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "road")
    override = {**road.brief().override.model_dump(exclude_unset=True)}
    override["config"] = {**override["config"], "lr_peak": 1e9, "clip_norm": None}
    path = road.write(road.brief(override=override, compute={"items_seen": 20_000, "device": "cpu", "threads": 1}))
    ran = road.cli("produce", str(path))
    assert ran.returncode == 1, ran.stderr
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("genwright:")]
    assert ran.stderr.splitlines()[-1] == line
    assert "not finite" in line or "the loss of" in line
    assert "lower override.config.lr_peak" in line
    client = connect(road.backends().settings.mlflow_uri)
    (tracked,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert tracked.info.status == "FAILED"
    assert not [key for key in road.backends().store.list("") if key.endswith("/train.json") or key.startswith("bundles/")]


@pytest.mark.slow
def test_a_second_production_of_a_model_at_the_same_time_is_turned_away(first: Any, tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "road")
    backends = road.backends()
    with lease("digits", backends):
        ran = road.cli("produce", str(road.write(road.brief())))
    assert (ran.returncode, ran.stdout) == (1, "")
    told = [line for line in ran.stderr.splitlines() if not line.startswith("Starting: ")]  # said where it takes long
    assert told == ["genwright: digits: another production of it is running; wait for it, then run the command again"]
    assert not list((road.home / "store").glob("runs/*/*/train.json"))
