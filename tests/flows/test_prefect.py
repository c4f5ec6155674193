"""A real Prefect server and a real process worker run what prefect.yaml deploys."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from components.pipeline.order import STAGES
from components.registry.mlflow_store import connect

REPOSITORY = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Team:
    """A road whose processes know a running Prefect server, and that server's API."""

    road: Any
    api: str
    worker: "subprocess.Popen[bytes] | None" = None

    def prefect(self, *arguments: str) -> str:
        ran = subprocess.run(
            [*PREFECT, "--no-prompt", *arguments],
            cwd=REPOSITORY,
            env=self.road.variables(PWD=str(REPOSITORY)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def post(self, path: str, **document: Any) -> Any:
        return self._ask("POST", path, json=document)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        """The server's answer. It says 503, come again, while another has its SQLite locked, as Prefect's own client knows."""
        for _ in range(20):
            reply = httpx.request(method, f"{self.api}/{path}", timeout=60, **more)
            if reply.status_code != 503:
                break
            time.sleep(0.5)
        return reply.raise_for_status().json()

    def start(self, flow: str, **parameters: Any) -> str:
        """Ask the worker for a run of a deployment. Returns the id of the flow run."""
        deployment = self.get(f"deployments/name/{flow}/{flow}")
        asked = self.post(f"deployments/{deployment['id']}/create_flow_run", parameters=parameters, state={"type": "SCHEDULED"})
        return str(asked["id"])

    def run(self, flow: str, **parameters: Any) -> dict[str, Any]:
        """Ask for a run and wait for its end."""
        return self.wait(self.start(flow, **parameters), ENDED)

    def tasks(self, run: dict[str, Any], *, at_least: int) -> list[dict[str, Any]]:
        """The task runs of a flow run. What the server says of tasks comes late."""
        for _ in range(100):
            tasks: list[dict[str, Any]] = self.post("task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
            if len(tasks) >= at_least:
                break
            time.sleep(0.1)
        return tasks

    def attempts(self, run: dict[str, Any], *, at_least: int) -> int:
        """How often the one task of a flow run was tried. What the server says of tasks comes late."""
        for _ in range(100):
            tasks = self.post("task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
            if tasks and tasks[0]["run_count"] >= at_least and tasks[0]["state_type"] == "FAILED":
                break
            time.sleep(0.1)
        (task,) = tasks
        return int(task["run_count"])

    def wait(self, run_id: str, states: tuple[str, ...], *, limit_s: float = 200) -> dict[str, Any]:
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            run: dict[str, Any] = self.get(f"flow_runs/{run_id}")
            if run["state_type"] in states:
                return run
            time.sleep(0.3)
        raise AssertionError(f"flow run {run_id} is {run['state_name']} after {limit_s} s")


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def team(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A server, the deployments of prefect.yaml, and a process worker, each in its own process, ended by its id."""
    folder = tmp_path_factory.mktemp("team")
    road, port = first.road.beside(folder / "road"), free_port()
    api = f"http://127.0.0.1:{port}/api"
    road.environment = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    team = Team(road, api)
    server = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with running(server, road.variables(), folder / "server.log") as process:
        until = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{api}/health").status_code == 200:
                    break
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < until, "the Prefect server did not answer in 120 s"
            time.sleep(0.3)
        team.prefect("work-pool", "create", "genwright", "--type", "process")
        team.prefect("deploy", "--all")
        worker = [*PREFECT, "worker", "start", "--pool", "genwright", "--type", "process"]
        with running(worker, road.variables(), folder / "worker.log") as team.worker:
            yield team


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_deployments_of_prefect_yaml_run_through_a_server_and_a_worker(team: Team) -> None:
    road = team.road
    # The cron of prefect.yaml stands on the server.
    (told,) = [each for each in yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"] if "schedules" in each]
    (schedule,) = team.get("deployments/name/retrain/retrain")["schedules"]
    assert schedule["schedule"]["cron"] == told["schedules"][0]["cron"] == "0 3 * * 1"
    # The command line with a server named: its flow run shows there.
    ran = road.cli("produce", str(road.write(road.brief(name="team"), "one.yaml")))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (seen,) = [run for run in team.post("flow_runs/filter", sort="START_TIME_DESC") if run["start_time"]]
    assert seen["state_type"] == "COMPLETED"
    # It was given the run, as the command resolved it, and no brief to resolve again.
    assert list(seen["parameters"]) == ["of"]
    assert (road.home / "store" / "runs" / seen["parameters"]["of"] / "run.json").is_file()
    tasks = team.tasks(seen, at_least=len(STAGES))
    assert {each["name"].partition(":")[0] for each in tasks} == {stage.name for stage in STAGES}
    assert {tag for each in tasks for tag in each["tags"]} == {"genwright-cpu"}
    release = road.backends().versions.resolve("team")
    mlflow = connect(road.backends().settings.mlflow_uri)
    named = {"prefect.flow_run_id": seen["id"], "prefect.flow_run_name": seen["name"]}
    version = mlflow.get_model_version("team", "1")
    for tags in (mlflow.get_run(release.run_id).data.tags, version.tags, mlflow.get_logged_model(version.tags["model_id"]).tags):
        assert named.items() <= tags.items()
    # Through the worker; the first run is killed, and the next one finishes the job.
    two = str(road.write(road.brief(name="team", seed=1), "two.yaml"))
    _killed(team, two)
    backends = road.backends()
    _goes(team, "produce", 2, brief=two)
    _goes(team, "deploy", 2, reference="team", store=str(road.folder / "elsewhere"))
    assert len(backends.registry.ledger.entries("team")) == 2
    assert list((road.folder / "elsewhere" / "bundles").iterdir())


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_other_deployments_run_there_too(team: Team) -> None:
    """That each deployment names a flow which exists is seen when the team deploys them all."""
    road = team.road
    one, two = (str(road.write(road.brief(name="others", seed=seed), f"others{seed}.yaml")) for seed in (0, 1))
    _goes(team, "produce", 1, model="others", brief=one)
    _goes(team, "retrain", 2, model="others", brief=two)
    _goes(team, "retrain", 2, model="others", brief=two)
    _goes(team, "promote", 1, model="others", reference="others/1", why="by the test", force=True)
    _goes(team, "rollback", 2, model="others")
    assert len(road.backends().registry.ledger.entries("others")) == 4


def _goes(team: Team, flow: str, champion: int, *, model: str = "team", **parameters: Any) -> None:
    """A run of a deployment ends well, and this version is champion after it."""
    run = team.run(flow, **parameters | ({"model": model} if flow == "rollback" else {}))
    assert run["state_type"] == "COMPLETED", run["state"]
    assert team.road.backends().versions.resolve(model).version == champion, flow


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_only_failures_that_pass_are_tried_again(team: Team) -> None:
    road = team.road
    run = team.run("produce", brief=str(road.folder / "none.yaml"))
    assert run["state_type"] == "FAILED"
    assert "none.yaml: no such file" in run["state"]["message"]
    assert team.attempts(run, at_least=1) == 1
    if "team" not in road.backends().versions.models():
        team.run("produce", brief=str(road.write(road.brief(name="team"), "one.yaml")))
    run = team.run("deploy", reference="team/1", store="/dev/null/store")
    assert run["state_type"] == "FAILED"
    assert "/dev/null/store" in run["state"]["message"]
    assert team.attempts(run, at_least=4) == 4


def _killed(team: Team, brief: str) -> None:
    """A flow run of `produce` whose process is killed when it is about to train: it shows as crashed."""
    asked = team.start("produce", brief=brief)
    assert team.worker is not None
    runs = team.road.home / "store" / "runs" / "team"
    before, until = len(list(runs.glob("*/tracked.json"))), time.monotonic() + 200
    while len(list(runs.glob("*/tracked.json"))) == before:
        assert time.monotonic() < until
        time.sleep(0.1)
    flows = [each for each in psutil.Process(team.worker.pid).children(recursive=True) if "prefect.engine" in str(each.cmdline())]
    assert flows
    for each in flows:
        each.kill()
    assert team.wait(asked, ENDED)["state_type"] == "CRASHED"
