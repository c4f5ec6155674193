"""Two pools of a real Prefect server: what trains is carried out by the worker of the one, all else by that of the other.

Each worker has a home and a folder of its own; they share a store, an MLflow server and a git repository.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from origins import origin_with, publish
from servers import ask_prefect, mlflow_server, prefect_server, until_left

from components.pipeline.run import Trained

PREFECT = [sys.executable, "-m", "prefect"]
CPU, GPU = "genwright", "genwright-gpu"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1500)]


@dataclass
class Stack:
    """A Prefect server with two pools, and what their workers share."""

    road: Any
    folder: Path
    clone: Path
    api: str
    shared: dict[str, str]
    workers: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def variables(self, machine: str) -> dict[str, str]:
        """Of a machine: its home is its own, and the place where its DVC keeps locks."""
        own = {"GENWRIGHT_HOME": str(self.home(machine)), "DVC_SITE_CACHE_DIR": str(self.folder / machine / "dvc")}
        return self.road.variables(**self.shared, **own)  # type: ignore[no-any-return]

    def home(self, machine: str) -> Path:
        return self.folder / machine / "home"

    @property
    def store(self) -> Path:
        return Path(self.shared["GENWRIGHT_STORE"])

    @contextlib.contextmanager
    def work(self, pool: str, *options: str) -> Iterator[None]:
        """A worker of a pool, on a machine that is named as the pool."""
        folder = self.folder / pool
        folder.mkdir(exist_ok=True)
        command = [*PREFECT, "worker", "start", "--pool", pool, "--type", "process", "--name", f"of-{folder.name}", *options]
        told = self.variables(folder.name)
        with until_left(command, folder / "worker.log", cwd=folder, environment=told) as self.workers[pool]:
            yield

    def ask(self, method: str, path: str, **more: Any) -> Any:
        return ask_prefect(self.api, method, path, **more)

    def write(self, name: str, **changes: Any) -> Path:
        """A brief in the clone."""
        own, path = self.road.brief(name=name, data={"path": "data/digits"}, **changes), self.clone / f"{name}.yaml"
        path.write_text(yaml.safe_dump(json.loads(own.model_dump_json(exclude_unset=True))))
        return path

    def schedule(self, name: str, **changes: Any) -> None:
        """A brief in the repository, pushed and scheduled for both pools."""
        self.write(name, **changes)
        publish(self.clone, name)
        command = [sys.executable, "-m", "flows", "schedule", f"{name}.yaml", "--gpu-pool", GPU]
        ran = subprocess.run(command, cwd=self.clone, env=self.variables(CPU), capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr

    def start(self, name: str) -> str:
        """Ask for a retraining; the id of its flow run."""
        deployment = self.ask("GET", f"deployments/name/retrain/{name}")
        asked = self.ask("POST", f"deployments/{deployment['id']}/create_flow_run", json={"state": {"type": "SCHEDULED"}})
        return str(asked["id"])

    def run_of(self, id_: str) -> dict[str, Any]:
        return self.ask("GET", f"flow_runs/{id_}")  # type: ignore[no-any-return]

    def end(self, id_: str, limit_s: float = 300) -> dict[str, Any]:
        """How a flow run ended."""
        return self.until(lambda: (run := self.run_of(id_))["state_type"] in ENDED and run, limit_s, id_)

    def until(self, what: Callable[[], Any], limit_s: float = 200, about: str = "") -> Any:
        until = time.monotonic() + limit_s
        while not (found := what()):
            assert time.monotonic() < until, f"{about}\n{self.said()}"
            time.sleep(0.2)
        return found

    def stages(self, parent: str) -> list[dict[str, Any]]:
        """The flow runs of stages that a flow run asked for, in their order."""
        below = self.ask("POST", "task_runs/filter", json={"task_runs": {"flow_run_id": {"any_": [parent]}}})
        runs = self.ask("POST", "flow_runs/filter", json={"sort": "EXPECTED_START_TIME_ASC"})
        tasks = {each["id"] for each in below}
        return [each for each in runs if each["parent_task_run_id"] in tasks]

    def logged(self, id_: str) -> str:
        lines = self.ask("POST", "logs/filter", json={"logs": {"flow_run_id": {"any_": [id_]}}, "limit": 200})
        return "\n".join(each["message"] for each in lines)

    def training(self, name: str) -> psutil.Process:
        """The process that trains a model below the worker of the GPU pool, once it has begun."""

        def found() -> psutil.Process | None:
            below = psutil.Process(self.workers[GPU].pid).children(recursive=True)
            for each in below:
                with contextlib.suppress(psutil.Error):
                    command = each.cmdline()
                    if "components.pipeline.worker" in command and f"/{name}/" in str(command):
                        folder = Path(command[command.index("components.pipeline.worker") + 1]).parent / "train"
                        if (folder / "work.json").exists():  # it knows how much it does, and begins
                            return each
            return None

        return self.until(found, about=f"{name} does not train")  # type: ignore[no-any-return]

    def said(self) -> str:
        logs = sorted(self.folder.glob("*/worker.log"))
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs)


@pytest.fixture(scope="module")
def stack(first: Any, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("pools")
    clone = origin_with(first.road.folder / "data" / "digits", folder)
    (folder / "mlflow").mkdir()
    files, database = str(folder / "mlflow" / "files"), f"sqlite:///{folder}/mlflow/mlflow.db"
    with mlflow_server(folder / "mlflow", database, files) as mlflow, prefect_server(folder / "server") as api:
        shared = {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            "GENWRIGHT_STORE": str(folder / "store"),
            "GENWRIGHT_TRACKING_URI": mlflow,
        }
        made = Stack(first.road, folder, clone, api, shared)
        for pool in (CPU, GPU):
            create = [*PREFECT, "--no-prompt", "work-pool", "create", pool, "--type", "process"]
            subprocess.run(create, env=first.road.variables(**shared), check=True, capture_output=True)
        with made.work(CPU):
            yield made


LONG = {"items_seen": 60_000, "device": "cpu", "threads": 1}
SHORT = LONG | {"items_seen": 24_000}
ENDLESS = LONG | {"items_seen": 10**9}


def test_a_training_goes_to_its_pool_and_what_ends_it_there_comes_back(stack: Stack, first: Any, tmp_path: Path) -> None:
    stack.schedule("digits", compute=LONG)
    asked = stack.start("digits")
    # It waits for a worker, and says so; that is no failure.
    line = f"no worker of pool {GPU} has polled yet"
    stack.until(lambda: line in stack.logged(asked), about="it does not say what it waits for")
    assert stack.run_of(asked)["state_type"] == "RUNNING"
    with stack.work(GPU):
        # Its process is to go away, as a pod is: the training saves, and is begun again.
        flow = stack.training("digits").parent()
        assert flow is not None
        flow.send_signal(signal.SIGTERM)
        stack.until(lambda: len(stack.stages(asked)) == 2, about="it was not begun again")
        saved = json.loads(next(stack.store.glob("runs/digits/*/state/saved.json")).read_text())
        assert saved["step"] > 0
        # The training is killed: a sentence, and the next run goes on.
        stack.training("digits").kill()
        failed = stack.end(asked)
        assert (failed["state_name"], failed["state"]["message"][:30]) == ("Failed", "training was killed (SIGKILL),")
        assert [(each["state_type"], each["state_name"]) for each in stack.stages(asked)] == [
            ("CRASHED", "Interrupted"),
            ("FAILED", "TrainingFailed"),
        ]
        again = stack.start("digits")
        done = stack.end(again)
        assert done["state_name"] == "Promoted", (done["state"], stack.said())
        assert done["work_pool_name"] == CPU
        (stage,) = stack.stages(again)
        assert (stage["work_pool_name"], stage["state_type"], stage["name"]) == (GPU, "COMPLETED", "train digits")
    # What ran where: the one home has the training, the other one the rest of it.
    assert {path.name.partition("-")[0] for path in stack.home(GPU).glob("work/digits/*")} == {"train"}
    assert not list(stack.home(CPU).glob("work/digits/train-*"))
    # The same bits as where nothing was ended, in one process on one machine.
    road = first.road.beside(tmp_path / "road")
    assert road.cli("produce", str(road.write(road.brief(compute=LONG)))).returncode == 0
    assert _trained(stack.store).checkpoint.weights == _trained(road.home / "store").checkpoint.weights
    assert not list(stack.store.glob("leases/stages/**/*.json"))


def test_two_runs_of_one_gpu_train_one_after_the_other(stack: Stack) -> None:
    """One by its deployment, one by a command of a person whose brief nobody scheduled."""
    with stack.work(GPU, "--limit", "1"):
        stack.schedule("one", compute=SHORT)
        command = [sys.executable, "-m", "flows", "produce", str(stack.write("two", compute=SHORT))]
        by_hand = subprocess.Popen(
            command, cwd=stack.clone, env=stack.variables(CPU) | {"GENWRIGHT_GPU_POOL": GPU}, stderr=subprocess.PIPE, text=True
        )
        ended = stack.end(stack.start("one"), 400)
        assert ended["state_name"] == "Promoted", ended["state"]
        said = by_hand.communicate(timeout=400)[1]
        assert by_hand.returncode == 0, said
        assert f"train in pool {GPU}" in said
        runs = stack.ask("POST", "flow_runs/filter", json={"sort": "EXPECTED_START_TIME_ASC"})
        first, second = sorted(
            (each for each in runs if each["name"] in ("train one", "train two")), key=lambda each: str(each["start_time"])
        )
        assert first["end_time"] <= second["start_time"]
        assert second["expected_start_time"] < first["end_time"]  # it did wait


def test_a_cancelled_flow_ends_its_training_within_seconds(stack: Stack) -> None:
    with stack.work(GPU):
        stack.schedule("endless", compute=ENDLESS)
        asked = stack.start("endless")
        training = stack.training("endless")
        flow = training.parent()
        began = time.monotonic()
        stack.ask("POST", f"flow_runs/{asked}/set_state", json={"state": {"type": "CANCELLING"}})
        psutil.wait_procs([training, flow], timeout=60)
        assert not training.is_running()
        assert flow is None or not flow.is_running()
        took_s = time.monotonic() - began
        print(f"gone after {took_s:.1f} s")
        assert took_s < 30
        assert stack.end(asked)["state_name"] == "Cancelled"
        (stage,) = stack.stages(asked)
        assert stack.end(stage["id"])["state_type"] == "CANCELLED"
        # A person who ends the stage itself ends its flow.
        asked = stack.start("endless")
        stack.training("endless")
        (stage,) = stack.stages(asked)
        stack.ask("POST", f"flow_runs/{stage['id']}/set_state", json={"state": {"type": "CANCELLING"}})
        ended = stack.end(asked)
        assert (ended["state_name"], "train was cancelled" in ended["state"]["message"]) == ("Cancelled", True)


def test_a_worker_that_is_gone_with_its_process_is_noticed(stack: Stack) -> None:
    """SIGKILL of both: nobody is left who could say so. The next worker goes on."""
    stack.schedule("orphan", compute=SHORT)
    with stack.work(GPU):
        asked = stack.start("orphan")
        training = stack.training("orphan")
        flow = training.parent()
        stack.workers[GPU].kill()
        assert flow is not None
        flow.kill()
        training.kill()
        stack.until(lambda: len(stack.stages(asked)) == 2, about="it was not noticed")
    with stack.work(GPU):
        assert stack.end(asked)["state_name"] == "Promoted", stack.said()
    assert [each["state_type"] for each in stack.stages(asked)] == ["CRASHED", "COMPLETED"]


def _trained(store: Path) -> Trained:
    (path,) = store.glob("runs/digits/*/train.json")
    return Trained.read(path)
