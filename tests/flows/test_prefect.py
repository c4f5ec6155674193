"""A real Prefect server and a real process worker run briefs as `genwright schedule` asks, and what prefect.yaml deploys."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
import yaml
from dvc.repo import Repo
from origins import git, publish
from roads import LENIENT
from servers import ask_prefect, prefect_server, until_left

from components.core.brief import Brief
from components.data.prepare import prepare
from components.data.versions import track
from components.pipeline.order import STAGES
from components.pipeline.release_commands import bundle_of
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
        return ask_prefect(self.api, "POST", path, json=document)

    def get(self, path: str) -> Any:
        return ask_prefect(self.api, "GET", path)

    def start(self, deployed: str, **parameters: Any) -> str:
        """Ask the worker for a run of a deployment: FLOW, or FLOW/NAME. Returns the id of the flow run."""
        flow, _, name = deployed.partition("/")
        deployment = self.get(f"deployments/name/{flow}/{name or flow}")
        asked = self.post(f"deployments/{deployment['id']}/create_flow_run", parameters=parameters, state={"type": "SCHEDULED"})
        return str(asked["id"])

    def run(self, deployed: str, **parameters: Any) -> dict[str, Any]:
        """Ask for a run and wait for its end."""
        return self.wait(self.start(deployed, **parameters), ENDED)

    def page(self, run: dict[str, Any]) -> str:
        """The page of a flow run, beside how far its training was."""
        found = self.post("artifacts/filter", flow_runs={"id": {"any_": [run["id"]]}})
        (artifact,) = (each for each in found if each["type"] == "markdown")
        return str(artifact["data"])

    def last(self) -> dict[str, Any]:
        """The flow run that began last."""
        return next(run for run in self.post("flow_runs/filter", sort="START_TIME_DESC") if run["start_time"])

    def publish(self, brief: Brief, text: str = "a change") -> Path:
        """The brief in a clone of a repository that has the data, too, and pushed from there."""
        folder, origin = self.road.folder / "clone", self.road.folder / "origin.git"
        if not folder.exists():
            shutil.copytree(self.road.folder / "data", folder / "data")
            (folder / "data" / ".dvc" / "config").write_text(
                f"[core]\n    no_scm = True\n    remote = far\n['remote \"far\"']\n    url = {self.road.folder / 'far'}\n"
            )
            with Repo(str(folder / "data")) as repo:
                repo.push()
            (folder / ".gitignore").write_text("/data/digits/\n/data/.dvc/*\n!/data/.dvc/config\n")
            git(self.road.folder, "init", "-q", "--bare", "-b", "main", "origin.git")
            git(folder, "init", "-q", "-b", "main")
            git(folder, "remote", "add", "origin", str(origin))
        path = folder / f"{brief.name}.yaml"
        own = brief.model_copy(update={"data": brief.data.model_copy(update={"repo": "."})})
        path.write_text(yaml.safe_dump(json.loads(own.model_dump_json(exclude_unset=True))))
        publish(folder, text)
        return path

    def schedule(self, *arguments: str) -> Any:
        """The lines of `genwright schedule ... --json`."""
        ran = self.road.cli("schedule", *arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

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

    def emit(self, event: str, number: UUID) -> None:
        """Send an event, as anybody's program does."""
        resource = {"prefect.resource.id": "data.digits"}
        sent = {"id": str(number), "event": event, "occurred": datetime.now(UTC).isoformat(), "resource": resource}
        httpx.post(f"{self.api}/events", json=[sent], timeout=60).raise_for_status()

    def runs(self, deployed: str, *, at_least: int) -> list[dict[str, Any]]:
        """The flow runs of a deployment, the first one first, once there are so many."""
        for _ in range(300):
            found: list[dict[str, Any]] = self.post(
                "flow_runs/filter", deployments={"name": {"any_": [deployed]}}, sort="EXPECTED_START_TIME_ASC"
            )
            if len(found) >= at_least:
                return found
            time.sleep(0.2)
        raise AssertionError(f"{len(found)} runs of {deployed}")

    def wait(self, run_id: str, states: tuple[str, ...], *, limit_s: float = 200) -> dict[str, Any]:
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            run: dict[str, Any] = self.get(f"flow_runs/{run_id}")
            if run["state_type"] in states:
                return run
            time.sleep(0.3)
        raise AssertionError(f"flow run {run_id} is {run['state_name']} after {limit_s} s")


@pytest.fixture(scope="module")
def team(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A server, the deployments of prefect.yaml, and a process worker, each in its own process, ended by its id."""
    folder = tmp_path_factory.mktemp("team")
    road = first.road.beside(folder / "road")
    with prefect_server(folder / "server") as api:
        road.environment = {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }
        team = Team(road, api)
        team.prefect("work-pool", "create", "genwright", "--type", "process")
        worker = [*PREFECT, "worker", "start", "--pool", "genwright", "--type", "process"]
        told = road.variables()
        with until_left(worker, folder / "worker.log", cwd=REPOSITORY, environment=told) as team.worker:
            yield team


@pytest.mark.slow
def test_a_task_has_the_tags_by_which_the_server_limits_tasks(prefect_api: str, tmp_path: Path) -> None:
    """And no other, for which Prefect's client would wait two seconds at each stage."""
    program = "from flows import prefect_server; prefect_server.prepare(); from flows.tasks import limited"
    program += "; print(*limited({'genwright', 'genwright-cpu'}))"
    told = {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "DO_NOT_TRACK": "1"}

    def tags() -> str:
        return subprocess.run(
            [sys.executable, "-c", program], env=told, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert tags() == ""
    made = ask_prefect(prefect_api, "POST", "v2/concurrency_limits/", json={"name": "tag:genwright-cpu", "limit": 1})
    try:
        assert tags() == "genwright-cpu"
    finally:
        httpx.delete(f"{prefect_api}/v2/concurrency_limits/{made['id']}", timeout=60).raise_for_status()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_brief_is_scheduled_and_its_runs_end_in_named_states(team: Team) -> None:
    road = team.road
    # A brief in a repository: what it asks for stands on the server, and nothing of the folder that it was scheduled from.
    cron = {"cron": "0 3 * * 1", "timezone": "Europe/Berlin", "on_new_data": True}
    path = team.publish(road.brief(name="team", schedule=cron))
    planned = team.schedule(str(path))
    assert [(each["trigger"], each["when"]) for each in planned] == [
        ("cron", "0 3 * * 1 Europe/Berlin"),
        ("new-data", "every 10 min"),
    ]
    deployed = team.get("deployments/name/retrain/team")
    assert str(path.parent) not in json.dumps(deployed)
    told = {each["slug"]: each["schedule"] for each in deployed["schedules"]}
    assert (told["cron"]["cron"], told["cron"]["timezone"], told["new-data"]["interval"]) == ("0 3 * * 1", "Europe/Berlin", 600)
    # Through the worker, from a clone; the first run is killed, and the next one finishes the job. Its slot is run once.
    slot = {"trigger": "cron", "slot": "2026-11-30T02:00:00+00:00"}
    _killed(team, "retrain/team", **slot)
    done = team.run("retrain/team", **slot)
    assert (done["state_name"], done["state"]["message"]) == ("Promoted", "team version 1 was produced and promoted")
    page = team.page(done)
    assert "## Gates: pass" in page
    assert "![samples](data:image/png;base64," in page
    tasks = team.tasks(done, at_least=1 + len(STAGES))
    assert {each["name"].partition(":")[0] for each in tasks} >= {stage.name for stage in STAGES}
    assert not any(
        each["tags"] for each in tasks if each["name"].partition(":")[0] in {stage.name for stage in STAGES}
    )  # no limits
    release = road.backends().versions.resolve("team")
    mlflow = connect(road.backends().settings.mlflow_uri)
    named = {"prefect.flow_run_id": done["id"], "prefect.flow_run_name": done["name"]}
    version = mlflow.get_model_version("team", "1")
    for tags in (mlflow.get_run(release.run_id).data.tags, version.tags, mlflow.get_logged_model(version.tags["model_id"]).tags):
        assert named.items() <= tags.items()
    again = team.run("retrain/team", **slot)
    assert again["state_name"] == "Unchanged"
    assert f"was run by the flow run {done['name']} and ended" in again["state"]["message"]
    assert [each.version for each in road.backends().versions.releases("team")] == [1]
    # What the brief no longer asks for is gone, and then all of it.
    planned = team.schedule(str(team.publish(road.brief(name="team", schedule={"on_new_data": True}))))
    assert [(each["trigger"], each["last"]) for each in planned] == [("new-data", "Unchanged")]
    assert [each["slug"] for each in team.get("deployments/name/retrain/team")["schedules"]] == ["new-data"]
    assert road.cli("schedule", "remove", "team").returncode == 0
    assert team.schedule("list") == []


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_command_line_shows_its_run_on_a_server_that_is_named(team: Team) -> None:
    road = team.road
    ran = road.cli("produce", str(road.write(road.brief(name="shown"), "shown.yaml")))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    seen = team.last()
    assert (seen["state_type"], seen["state_name"]) == ("COMPLETED", "Promoted")
    assert seen["state"]["message"] == "shown version 1 was produced and promoted"
    # It was given the run, as the command resolved it, and no brief to resolve again.
    assert list(seen["parameters"]) == ["of"]
    assert (road.home / "store" / "runs" / seen["parameters"]["of"] / "run.json").is_file()
    assert {each["name"].partition(":")[0] for each in team.tasks(seen, at_least=len(STAGES))} == {stage.name for stage in STAGES}
    refused = road.cli("schedule", "remove", "teams")
    assert (refused.returncode, refused.stderr.partition("; allowed")[0]) == (2, "genwright: teams: has no schedule")


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_new_data_is_seen_and_only_then_retrained(team: Team) -> None:
    road = team.road
    path = team.publish(road.brief(name="fresh", schedule={"on_new_data": True}))
    team.schedule(str(path))
    looks = [team.run("retrain/fresh", trigger="new-data") for _ in range(2)]
    assert [each["state_name"] for each in looks] == ["Promoted", "Unchanged"]
    assert looks[1]["state"]["message"].startswith("nothing to do: data ")
    assert looks[1]["total_run_time"] < 10
    folder = path.parent / "data"
    shutil.rmtree(folder / "digits")
    prepare("uci-digits", folder / "digits", limit_items=1200, cache=road.home / "data")
    track(folder / "digits")
    with Repo(str(folder)) as repo:
        repo.push()
    team.publish(road.brief(name="fresh", schedule={"on_new_data": True}), "new data")
    looks = [team.run("retrain/fresh", trigger="new-data") for _ in range(2)]
    assert [each["state_name"] for each in looks] == ["Promoted", "Unchanged"]
    assert [each.version for each in road.backends().versions.releases("fresh")] == [1, 2]
    by_hand = team.run("retrain/fresh")
    assert by_hand["state_name"] == "Unchanged"
    assert by_hand["state"]["message"].startswith("nothing to do: the brief, the data (")


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_an_event_starts_one_run_however_often_it_comes(team: Team) -> None:
    road, name = team.road, "data.digits-ready"
    (planned,) = team.schedule(str(team.publish(road.brief(name="heard", schedule={"on_event": name}))))
    assert (planned["trigger"], planned["when"], planned["next"], planned["paused"]) == ("event", name, None, False)
    first, second = uuid4(), uuid4()
    for event, number in ((name, first), (f"{name}-too", uuid4()), (name, first)):
        team.emit(event, number)
    done = team.wait(team.runs("heard", at_least=1)[0]["id"], ENDED)
    assert (done["state_name"], done["state"]["message"]) == ("Promoted", "heard version 1 was produced and promoted")
    assert done["parameters"] == {"brief": "heard.yaml", "trigger": "event", "slot": str(first)}
    assert len(team.runs("heard", at_least=1)) == 1
    # As a server delivers it that has forgotten what it saw, and another event.
    again = team.run("retrain/heard", trigger="event", slot=str(first))
    assert again["state_name"] == "Unchanged"
    assert again["state"]["message"].startswith(f"nothing to do: event {first} of heard was run by the flow run {done['name']} ")
    team.emit(name, second)
    another = team.wait(team.runs("heard", at_least=3)[-1]["id"], ENDED)
    assert (another["state_name"], another["parameters"]["slot"]) == ("Unchanged", str(second))
    assert another["state"]["message"].startswith("nothing to do: the brief, the data (")
    assert [each.version for each in road.backends().versions.releases("heard")] == [1]
    # It is updated, kept by `automations --remove`, and removed with what asked for it.
    assert _waited_for(team) == [[name]]
    assert [each["trigger"] for each in team.schedule(str(team.publish(road.brief(name="heard"), "no event")))] == ["hand"]
    assert _waited_for(team) == []
    other = str(team.publish(road.brief(name="heard", schedule={"on_event": "other", "cron": "@daily"}), "another event"))
    for _ in range(2):
        planned = team.schedule(other)
        assert [(each["trigger"], each["when"]) for each in planned] == [("cron", "@daily UTC"), ("event", "other")]
    assert road.cli("automations").returncode == 0
    assert road.cli("automations", "--remove").stdout.startswith("genwright: crash-silent: removed")
    assert _waited_for(team) == [["other"]]
    assert road.cli("schedule", "remove", "heard").returncode == 0
    assert _waited_for(team) == []


def _waited_for(team: Team) -> list[list[str]]:
    """The events that automations of schedules wait for."""
    return [each["trigger"]["expect"] for each in team.post("automations/filter")]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_new_champion_of_its_base_is_seen_and_only_then_retrained(team: Team) -> None:
    road = team.road

    def found_base(seed: int) -> None:
        ran = road.cli("produce", str(road.write(road.brief(name="ground", seed=seed), "ground.yaml")))
        assert ran.returncode == 0, ran.stderr

    found_base(0)
    base = {"model": "models:/ground@champion", "in_domain": True}
    tuned = road.brief(name="tuned", goal="latent", override=None, pretrained=base, schedule={"on_new_base": True})
    (planned,) = team.schedule(str(team.publish(tuned)))
    assert (planned["trigger"], planned["when"]) == ("new-base", "every 10 min")
    assert team.run("retrain/tuned")["state_name"] == "Promoted"
    before = team.run("retrain/tuned", trigger="new-base")
    assert before["state_name"] == "Unchanged"
    assert before["state"]["message"].startswith("nothing to do: version 1 of tuned, its champion, is of this base (ground/1, ")
    found_base(1)
    looks = [team.run("retrain/tuned", trigger="new-base") for _ in range(2)]
    assert [each["state_name"] for each in looks] == ["Promoted", "Unchanged"]
    second = road.backends().versions.resolve("ground").bundle_sha256
    assert looks[1]["state"]["message"].startswith(f"nothing to do: base {second[:8]} of tuned was run by the flow run ")
    assert [each.version for each in road.backends().versions.releases("tuned")] == [1, 2]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_new_champion_of_an_adapter_that_is_combined_is_seen_and_only_then_followed(team: Team) -> None:
    """The base itself stays: what moves is one of the adapters that are added to it."""
    road = team.road

    def made(name: str, **changes: Any) -> None:
        ran = road.cli("produce", str(road.write(road.brief(name=name, **changes), f"{name}.yaml")))
        assert ran.returncode == 0, ran.stderr

    def adapter(name: str, **changes: Any) -> None:
        given = {"model": "models:/letters@champion", "in_domain": True, "lora": {"rank": 2}}
        made(name, goal="latent", pretrained=given, override={"mode": "lora"}, **changes)

    made("letters")
    adapter("thin")
    adapter("bold", seed=3)
    added = {"models:/thin@champion": 0.5, "models:/bold@champion": 0.25}
    given = {"model": "models:/letters@champion", "in_domain": True, "adapters": added}
    both = road.brief(name="both", goal="latent", override={"mode": "combine"}, pretrained=given, schedule={"on_new_base": True})
    (planned,) = team.schedule(str(team.publish(both)))
    assert planned["trigger"] == "new-base"
    assert team.run("retrain/both")["state_name"] == "Promoted"
    assert team.run("retrain/both", trigger="new-base")["state_name"] == "Unchanged"
    adapter("thin", seed=1)
    looks = [team.run("retrain/both", trigger="new-base") for _ in range(2)]
    assert [each["state_name"] for each in looks] == ["Promoted", "Unchanged"]
    backends = road.backends()
    assert [each.version for each in backends.versions.releases("both")] == [1, 2]
    folded = {each.model: each.bundle for each in bundle_of(backends.versions.resolve("both"), backends)[1].lineage.adapters}
    assert folded == {name: backends.versions.resolve(name).bundle_sha256 for name in ("thin", "bold")}
    assert backends.versions.resolve("thin").version == 2


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_refusal_is_no_crash_and_what_is_ended_is_cancelled(team: Team) -> None:
    road = team.road
    strict = road.brief(name="strict", gates=LENIENT | {"fd_noise_ratio_max": 1e-6})
    ran = road.cli("produce", str(road.write(strict, "strict.yaml")))
    assert ran.returncode == 3, ran.stderr
    seen = team.last()
    assert (seen["state_type"], seen["state_name"]) == ("COMPLETED", "Refused")
    assert f"genwright: {seen['state']['message']}\n" in ran.stderr
    assert "| fd_noise_ratio_max | fail |" in team.page(seen)
    team.schedule(str(team.publish(strict.model_copy(update={"seed": 1}))))
    through = team.run("retrain/strict")
    assert (through["state_type"], through["state_name"]) == ("COMPLETED", "Refused")
    assert through["state"]["message"].startswith("strict version 2 stays a candidate: fd_noise_ratio_max fail")
    # A signal to the command, and Prefect's own way through the worker.
    endless = road.brief(name="endless", compute={"items_seen": 10**9, "device": "cpu", "threads": 1})
    command = [sys.executable, "-m", "flows", "produce", str(road.write(endless, "endless.yaml"))]
    with _training(team, "endless"):
        process = subprocess.Popen(command, cwd=road.folder, env=road.variables(), stderr=subprocess.PIPE, text=True)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1].splitlines()[-1].startswith("genwright: ")
    assert process.returncode == 130
    seen = team.last()
    assert (seen["state_type"], seen["state_name"]) == ("CANCELLED", "Cancelled")
    assert seen["state"]["message"]
    team.schedule(str(team.publish(endless.model_copy(update={"seed": 1}))))
    with _training(team, "endless"):
        run = team.start("retrain/endless")
    team.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    assert team.wait(run, ENDED)["state_name"] == "Cancelled"


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_deployments_of_prefect_yaml_run_there_too(team: Team) -> None:
    road = team.road
    team.prefect("deploy", "--all")
    for seed in (0, 1):
        ran = road.cli("produce", str(road.write(road.brief(name="others", seed=seed), f"others{seed}.yaml")))
        assert ran.returncode == 0, ran.stderr
    _goes(team, "promote", 1, model="others", reference="others/1", why="by the test", force=True)
    _goes(team, "rollback", 2, model="others")
    assert len(road.backends().registry.ledger.entries("others")) == 4
    _goes(team, "deploy", 2, model="others", reference="others", store=str(road.folder / "elsewhere"))
    assert len(road.backends().registry.ledger.entries("others")) == 4
    assert list((road.folder / "elsewhere" / "bundles").iterdir())
    for flow in ("promote", "deploy"):
        refused = team.run(flow, reference="others/1")
        assert (refused["state_type"], refused["state_name"]) == ("COMPLETED", "Refused")
        assert refused["state"]["message"].startswith("others version 1 ")


def _goes(team: Team, flow: str, champion: int, *, model: str, **parameters: Any) -> None:
    """A run of a deployment ends well, and this version is champion after it."""
    run = team.run(flow, **parameters | ({"model": model} if flow == "rollback" else {}))
    assert run["state_type"] == "COMPLETED", run["state"]
    assert team.road.backends().versions.resolve(model).version == champion, flow


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_only_failures_that_pass_are_tried_again(team: Team) -> None:
    road = team.road
    if "team" not in road.backends().versions.models():
        road.cli("produce", str(road.write(road.brief(name="team"), "one.yaml")))
    team.prefect("deploy", "--all")
    team.schedule(str(team.publish(road.brief(name="none"))))
    run = team.run("retrain/none", brief=str(road.folder / "none.yaml"))
    assert (run["state_type"], run["state_name"]) == ("FAILED", "Failed")
    assert run["state"]["message"].startswith(f"{road.folder}/none.yaml: no such file; ")
    assert team.attempts(run, at_least=1) == 1
    run = team.run("deploy", reference="team/1", store="/dev/null/store")
    assert run["state_type"] == "FAILED"
    assert "/dev/null/store" in run["state"]["message"]
    assert team.attempts(run, at_least=4) == 4


@contextlib.contextmanager
def _training(team: Team, model: str) -> Iterator[None]:
    """Waits until a training of the model that the block begins is under way."""
    runs = team.road.home / "store" / "runs" / model
    before, until = len(list(runs.glob("*/tracked.json"))), time.monotonic() + 200
    yield
    while len(list(runs.glob("*/tracked.json"))) == before:
        assert time.monotonic() < until
        time.sleep(0.1)


def _killed(team: Team, deployed: str, **parameters: Any) -> None:
    """A flow run whose process is killed when it is about to train: it shows as crashed."""
    with _training(team, deployed.partition("/")[2]):
        asked = team.start(deployed, **parameters)
        assert team.worker is not None
    started = psutil.Process(team.worker.pid).children(recursive=True)
    flows = [each for each in started if "prefect.engine" in str(each.cmdline()) or "flow_engine" in str(each.cmdline())]
    assert flows
    for each in flows:
        each.kill()
    assert team.wait(asked, ENDED)["state_type"] == "CRASHED"
