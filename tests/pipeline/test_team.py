"""A team's day on real servers: Prefect with two pools, MLflow on PostgreSQL, SeaweedFS, a server that follows the champion.

Workers and server have homes and folders of their own; briefs and data come from a git repository with a DVC remote in S3.
One test, as each part begins where the one before it ended.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml
from dvc.repo import Repo
from origins import publish
from roads import LENIENT, SMALL
from servers import Weed, ask_prefect, free_ports, until_left

from components.data.prepare import prepare
from components.data.versions import track
from components.registry.release import promote as release_promote
from flows.settings import load_backends

PREFECT = [sys.executable, "-m", "prefect"]
CPU, GPU = "genwright", "genwright-gpu"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
SWAPS = 20
TRAINS = {"items_seen": 8000, "device": "cpu", "threads": 1}
BRIEFS: dict[str, dict[str, Any]] = {
    "faces": {"schedule": {"cron": "0 3 * * *", "on_new_data": True}},
    "strict": {"gates": LENIENT | {"fd_noise_ratio_max": 1e-6}},
    "endless": {"compute": TRAINS | {"items_seen": 10**9}},
}


@dataclass
class Team:
    """Its repository's clone, the Prefect server, and what every machine is told."""

    clone: Path
    folder: Path
    api: str
    told: dict[str, str]
    workers: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def machine(self, name: str) -> dict[str, str]:
        """The environment of a machine that shares nothing but servers: its home, its temporary folder, its DVC."""
        folder = self.folder / name
        for part in ("home", "tmp", "user", "prefect"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        own = {"HOME": "user", "TMPDIR": "tmp", "DVC_SITE_CACHE_DIR": "tmp", "GENWRIGHT_HOME": "home", "PREFECT_HOME": "prefect"}
        return self.told | {variable: str(folder / part) for variable, part in own.items()} | {"GENWRIGHT_ACTOR": name}

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command of the person whose clone it is."""
        command = [sys.executable, "-m", "flows", *arguments]
        ran = subprocess.run(command, cwd=self.clone, env=self.machine("desk"), capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran

    @contextlib.contextmanager
    def process(self, name: str, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        told = self.machine(name)
        with until_left([*command], self.folder / f"{name}.log", cwd=self.folder, environment=told) as started:
            yield started

    def ask(self, method: str, path: str, **more: Any) -> Any:
        return ask_prefect(self.api, method, path, **more)

    def start(self, name: str, **parameters: Any) -> str:
        deployment = self.ask("GET", f"deployments/name/retrain/{name}")
        asked = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.ask("POST", f"deployments/{deployment['id']}/create_flow_run", json=asked)["id"])

    def end(self, id_: str) -> dict[str, Any]:
        return self.until(lambda: (run := self.ask("GET", f"flow_runs/{id_}"))["state_type"] in ENDED and run)  # type: ignore[no-any-return]

    def run(self, name: str, **parameters: Any) -> dict[str, Any]:
        return self.end(self.start(name, **parameters))

    def until(self, what: Callable[[], Any], limit_s: float = 400) -> Any:
        until = time.monotonic() + limit_s
        while not (found := what()):
            assert time.monotonic() < until, self.said()
            time.sleep(0.2)
        return found

    def said(self) -> str:
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in sorted(self.folder.glob("*.log")))

    def trained_in(self, run: dict[str, Any]) -> set[str]:
        """The pools where the flow runs of stages were carried out that this flow run asked for."""
        tasks = self.ask("POST", "task_runs/filter", json={"task_runs": {"flow_run_id": {"any_": [run["id"]]}}})
        below = {each["id"] for each in tasks}
        runs = self.ask("POST", "flow_runs/filter", json={"sort": "EXPECTED_START_TIME_ASC"})
        return {each["work_pool_name"] for each in runs if each["parent_task_run_id"] in below}

    def publish(self, text: str) -> None:
        publish(self.clone, text)


@pytest.fixture
def team(
    office: Path,
    weed: Weed,
    team_mlflow: str,
    prefect_api: str,
    raw_road: Any,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Team]:
    folder, (port,) = tmp_path_factory.mktemp("team"), free_ports(1)
    subprocess.run(["git", "clone", "-q", "--bare", str(office), "origin.git"], cwd=folder, check=True)
    subprocess.run(["git", "clone", "-q", str(folder / "origin.git"), "desk-clone"], cwd=folder, check=True)
    store = {"GENWRIGHT_STORE": f"s3://{weed.bucket}/day", "GENWRIGHT_S3_ENDPOINT": weed.endpoint}
    told = weed.environment | store | {"GENWRIGHT_TRACKING_URI": team_mlflow, "PREFECT_API_URL": prefect_api, "DO_NOT_TRACK": "1"}
    told |= {"GENWRIGHT_SERVERS": f"http://127.0.0.1:{port}", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("GENWRIGHT_HOME", str(folder / "here"))
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    found = Team(folder / "desk-clone", folder, prefect_api, told | paths | {"OMP_NUM_THREADS": "1"})
    for name, changes in BRIEFS.items():
        asked = {"name": name, "modality": "image", "data": {"path": "data/digits"}, "gates": LENIENT, "override": SMALL}
        (found.clone / f"{name}.yaml").write_text(yaml.safe_dump(asked | {"compute": TRAINS} | changes))
    found.publish("briefs")
    for pool in (CPU, GPU):
        create = [*PREFECT, "--no-prompt", "work-pool", "create", pool, "--type", "process"]
        subprocess.run(create, env=found.machine("desk"), check=True, capture_output=True)
    with contextlib.ExitStack() as stack:
        for pool in (CPU, GPU):
            command = [*PREFECT, "worker", "start", "--pool", pool, "--type", "process", "--name", f"of-{pool}"]
            found.workers[pool] = stack.enter_context(found.process(pool, *command))
        yield found


@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_a_day_of_a_team(team: Team) -> None:
    for name in BRIEFS:
        team.cli("schedule", f"{name}.yaml", "--gpu-pool", GPU)
    # The first look at new data, and what it makes; its training on the other pool.
    first = team.run("faces", trigger="new-data")
    assert first["state_name"] == "Promoted", (first["state"], team.said())
    assert (first["work_pool_name"], team.trained_in(first)) == (CPU, {GPU})
    quiet = team.run("faces", trigger="new-data")
    assert (quiet["state_name"], quiet["state"]["message"][:20]) == ("Unchanged", "nothing to do: data ")
    # A new version of the data at the DVC remote.
    prepare("uci-digits", team.clone / "data" / "digits", limit_items=1200, cache=team.folder / "raw")
    track(team.clone / "data" / "digits")
    with Repo(str(team.clone)) as repo:
        repo.push()
    team.publish("new data")
    second = team.run("faces", trigger="new-data")
    assert (second["state_name"], team.trained_in(second)) == ("Promoted", {GPU}), (second["state"], team.said())
    backends = load_backends()
    assert [each.version for each in backends.versions.releases("faces")] == [1, 2]
    # Refused, cancelled, unchanged: each ends in its state, and none of them is a failure.
    strict = team.run("strict")
    assert (strict["state_type"], strict["state_name"]) == ("COMPLETED", "Refused")
    assert team.trained_in(strict) == {GPU}
    cancelled = _cancelled(team)
    assert (cancelled["state_type"], cancelled["state_name"]) == ("CANCELLED", "Cancelled")
    unchanged = team.run("faces")
    assert (unchanged["state_type"], unchanged["state_name"]) == ("COMPLETED", "Unchanged")
    print(f"unchanged runs took {quiet['total_run_time']:.1f} and {unchanged['total_run_time']:.1f} s")
    assert max(quiet["total_run_time"], unchanged["total_run_time"]) <= 10
    _served(team)


def _cancelled(team: Team) -> dict[str, Any]:
    """A run that is cancelled while it trains on the other machine: its processes are gone within seconds."""
    asked = team.start("endless")

    def training() -> list[psutil.Process]:
        below = psutil.Process(team.workers[GPU].pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            return below if any("components.pipeline.worker" in each.cmdline() for each in below) else []
        return []

    below = team.until(training)
    time.sleep(3)  # it has begun to train
    began = time.monotonic()
    team.ask("POST", f"flow_runs/{asked}/set_state", json={"state": {"type": "CANCELLING"}})
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive
    print(f"cancelled: gone after {time.monotonic() - began:.1f} s")
    return team.end(asked)


def _served(team: Team) -> None:
    """The champion behind HTTP: twenty swaps that the server is told of, then a rollback by its command under load."""
    address = team.told["GENWRIGHT_SERVERS"]
    serve = [sys.executable, "-m", "flows", "serve", "faces", "--port", address.rpartition(":")[2]]
    with team.process("server", *serve) as server, httpx.Client(base_url=address, timeout=30, trust_env=False) as client:

        def bundle() -> str | None:
            assert server.poll() is None, team.said()
            with contextlib.suppress(httpx.TransportError):
                return client.post("/v1/generate", json={"seed": 1, "format": "npy"}).headers.get("x-bundle-sha256")
            return None

        backends = load_backends()
        digests = {each.version: each.bundle_sha256 for each in backends.versions.releases("faces")}
        team.until(lambda: bundle() == digests[2])
        took = [_swapped(f"faces/{1 + number % 2}", digests[1 + number % 2], bundle) for number in range(SWAPS)]
        p95_s = float(np.quantile(took, 0.95))
        print(f"served after {np.median(took):.2f} s (median), {p95_s:.2f} s (p95 of {SWAPS}), {max(took):.2f} s at most")
        assert p95_s <= 2
        statuses, back_s = _rolled_back(team, bundle, digests[1], address)
        print(f"rollback: {back_s:.1f} s from the command to the first reply by the old bundle, replies {statuses}")
        assert statuses.keys() == {200}
        assert statuses[200] > 50


def _swapped(reference: str, digest: str, bundle: Callable[[], str | None]) -> float:
    """Seconds from the moment in which the channel names a version to its first reply, while it is promoted."""
    moved: dict[str, float] = {}
    backends = load_backends()
    registry = replace(backends.registry, after=lambda step: moved.setdefault(step, time.monotonic()))
    release = backends.versions.resolve(reference)
    who = threading.Thread(
        target=release_promote, args=(registry, release.model, release.version), kwargs={"who": "the test", "why": "a swap"}
    )
    who.start()
    until = time.monotonic() + 60
    while bundle() != digest:
        assert time.monotonic() < until, moved
        time.sleep(0.01)
    replied = time.monotonic()
    who.join()
    return replied - moved["channel"]


def _rolled_back(team: Team, bundle: Callable[[], str | None], old: str, address: str) -> tuple[dict[int, int], float]:
    """`genwright rollback` while four clients ask 40 times a second each: the replies, and seconds until the old bundle's first.

    Without a pause they take all cores that the command, MLflow, PostgreSQL and the store would need here beside the server.
    """
    statuses: dict[int, int] = {}
    done = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            while not done.is_set():
                try:
                    status = client.post("/v1/generate", json={"seed": number, "count": 2, "format": "npy"}).status_code
                except httpx.HTTPError:
                    status = 599
                statuses[status] = statuses.get(status, 0) + 1
                done.wait(0.025)

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for each in clients:
        each.start()
    try:
        began = time.monotonic()
        command = [sys.executable, "-m", "flows", "rollback", "faces", "--json"]
        ran = subprocess.Popen(command, cwd=team.clone, env=team.machine("desk"), stdout=subprocess.PIPE, text=True)
        while bundle() != old:
            assert time.monotonic() - began < 60, team.said()
            time.sleep(0.01)
        back_s = time.monotonic() - began
        assert json.loads(ran.communicate(timeout=60)[0])["release"]["version"] == 1
    finally:
        done.set()
        for each in clients:
            each.join()
    return statuses, back_s
