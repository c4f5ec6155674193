"""A real Prefect server looks after our runs: what died is Crashed, and a webhook hears of what people should know, once."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from roads import LENIENT
from servers import prefect_server

from components.pipeline.automations import CRASH, FAILED, REFUSED
from components.pipeline.notices import UNDONE, Notice

pytestmark = pytest.mark.nightly
SILENT_S = 40  # the heartbeats of these tests come every 30 s


class Ear(ThreadingHTTPServer):
    """A webhook's receiver, which keeps what it hears."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[dict[str, Any]] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}/hook?key=secret"

    def of(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.heard if each["event"] == event]

    def wait(self, event: str, limit_s: float = 60) -> dict[str, Any]:
        """The one word of this event, and no second within some seconds."""
        until = time.monotonic() + limit_s
        while not self.of(event):
            assert time.monotonic() < until, self.heard
            time.sleep(0.2)
        time.sleep(4)
        (one,) = self.of(event)
        return one


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Ear)
        assert self.headers["Content-Type"] == "application/json"
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def ear() -> Iterator[Ear]:
    found = Ear()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture(scope="module")
def road(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A road whose processes know a running Prefect server."""
    folder, beats = tmp_path_factory.mktemp("automations"), {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    road = first.road.beside(folder / "road")
    with prefect_server(folder / "server", **beats) as api:
        road.environment = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": api, "DO_NOT_TRACK": "1"} | beats
        yield road


def post(road: Any, path: str, **asked: Any) -> Any:
    return httpx.post(f"{road.environment['PREFECT_API_URL']}/{path}", json=asked, timeout=30).raise_for_status().json()


def automations(road: Any, *arguments: str) -> dict[str, str]:
    """What became of each."""
    ran = road.cli("automations", *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    return {each["name"]: each["became"] for each in json.loads(ran.stdout)}


def test_they_are_made_once_updated_and_removed(road: Any, ear: Ear) -> None:
    assert automations(road) == {CRASH: "created"}
    assert automations(road, "--webhook", "http://127.0.0.1:9/", "--silent-s", "700") == {
        CRASH: "updated", FAILED: "created", REFUSED: "created",
    }  # fmt: skip
    assert automations(road, "--webhook", ear.address, "--silent-s", "700") == dict.fromkeys(
        (CRASH, FAILED, REFUSED), "unchanged"
    )
    assert automations(road, "--silent-s", "700") == dict.fromkeys((CRASH, FAILED, REFUSED), "unchanged")  # the address stays
    found = post(road, "automations/filter")
    assert sorted(each["name"] for each in found) == sorted((CRASH, FAILED, REFUSED))
    # One that a person turned off stays off, and doctor's question names it.
    (crash,) = (each for each in found if each["name"] == CRASH)
    address = f"{road.environment['PREFECT_API_URL']}/automations/{crash['id']}"
    httpx.patch(address, json={"enabled": False}).raise_for_status()
    assert automations(road)[CRASH] == "updated"
    assert httpx.get(address).json()["enabled"] is False
    code = "from flows.automations import missing; print(missing(webhook=True))"
    asked = subprocess.run([sys.executable, "-c", code], env=road.variables(), capture_output=True, text=True, check=True)
    assert asked.stdout == f"('{CRASH}',)\n"
    assert automations(road, "--remove") == dict.fromkeys((CRASH, FAILED, REFUSED), "removed")
    assert post(road, "automations/filter") == []
    assert post(road, "block_documents/filter") == []
    assert road.cli("automations", "--remove").stdout == "there were none\n"


def test_a_webhook_hears_of_a_notice_once(road: Any, ear: Ear) -> None:
    automations(road, "--webhook", ear.address)
    notice = Notice(event=UNDONE, model="digits", sentence='digits: "undone"\nand <told>', details={"version": 2})
    code = "import sys; from flows.events import emit; from components.pipeline.notices import Notice; "
    code += "emit([Notice.model_validate_json(sys.argv[1])])"
    subprocess.run([sys.executable, "-c", code, notice.model_dump_json()], env=road.variables(), check=True, timeout=120)
    heard = ear.wait(UNDONE)
    assert heard["text"] == notice.sentence
    assert heard["details"] == {"sentence": notice.sentence, "version": 2}


@pytest.mark.timeout(900)
def test_a_refusal_is_heard_once_with_its_sentence(road: Any, ear: Ear) -> None:
    automations(road, "--webhook", ear.address)
    strict = road.brief(name="strict", gates=LENIENT | {"coverage_min": 1.0})
    ran = road.cli("produce", str(road.write(strict, "strict.yaml")))
    assert ran.returncode == 3, ran.stderr
    heard = ear.wait("genwright.gate.refused")
    assert ran.stderr.splitlines()[-1] == f"genwright: {heard['text']}"
    assert heard["text"].startswith("strict version 1 stays a candidate: coverage_min ")
    assert list(heard["details"]["gates"]) == ["coverage_min"]
    again = road.cli("retrain", str(road.folder / "strict.yaml"))
    assert again.returncode == 0
    time.sleep(5)
    assert len(ear.of("genwright.gate.refused")) == 1  # an unchanged run is no news
    # Its training has left how far it was in Prefect's page.
    found = post(road, "artifacts/filter")
    assert {each["type"] for each in found} == {"markdown", "progress"}
    (progress,) = (each for each in found if each["type"] == "progress")
    assert progress["key"] == "genwright-strict-training"
    assert "strict is being trained: step " in progress["description"]
    assert 0 < progress["data"] <= 100
    assert progress["flow_run_id"]
    assert progress["task_run_id"]


@pytest.mark.timeout(900)
def test_a_run_that_was_killed_is_crashed_within_the_time_and_told(road: Any, ear: Ear) -> None:
    automations(road, "--webhook", ear.address, "--silent-s", str(SILENT_S))
    endless = road.brief(name="endless", compute={"items_seen": 10**9, "device": "cpu", "threads": 1})
    command = [sys.executable, "-m", "flows", "produce", str(road.write(endless, "endless.yaml"))]
    process = subprocess.Popen(command, cwd=road.folder, env=road.variables(), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not [*(road.home / "store" / "runs" / "endless").glob("*/tracked.json")]:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    time.sleep(5)  # its heartbeat was sent
    (run,) = post(road, "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["RUNNING"]}}})
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(each.pid, signal.SIGKILL)
    process.wait()
    killed = time.monotonic()
    heard = ear.wait("prefect.flow-run.Crashed", limit_s=SILENT_S + 60)
    assert time.monotonic() - killed < SILENT_S + 35
    assert f"no heartbeat for {SILENT_S} s" in heard["text"]
    (now,) = post(road, "flow_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    assert (now["state_type"], now["state_name"]) == ("CRASHED", "Crashed")
    assert [each["text"] for each in ear.of("prefect.flow-run.Failed")] == []


def test_nothing_is_sent_where_no_server_is_named(tmp_path: Path) -> None:
    code = "import sys; from flows.events import emit; emit(iter([1])); print('prefect' in sys.modules)"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ran = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


AWAY = """
import sys, time
from components.pipeline.order import STAGES
from components.pipeline.run import Run, folder_of
from components.training.folder import PROGRESS
from components.training.how_far import HowFar
from flows import progress
from flows.settings import load_backends

progress.EVERY_S = 0.05
run, backends = Run.model_validate_json(sys.argv[1]), load_backends()
folder = folder_of(run, backends, "train") / "train"
folder.mkdir(parents=True)
left = HowFar(done=0.5, note="step 1", at_s=time.time() + 60).model_dump_json()
(folder / PROGRESS).write_text(left)
began = time.monotonic()
with progress.shown(STAGES[0], run, backends):
    steps = sum(1 for _ in range(200) if not time.sleep(0.005))
print(steps, time.monotonic() - began)
"""


def test_a_server_that_is_away_holds_up_no_training(a_run: Any, tmp_path: Path) -> None:
    """Not for longer than the last word may take."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GENWRIGHT_"))}
    ours = {
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "GENWRIGHT_HOME": str(tmp_path),
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    command = [sys.executable, "-c", AWAY, a_run.model_dump_json()]
    ran = subprocess.run(command, env=kept | ours, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    steps, seconds = ran.stdout.split()
    assert int(steps) == 200
    assert float(seconds) < 5
