"""Machines: each has a home, a clone and a working folder that the others cannot read, and reaches the same servers."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import Weed

GROUPS = 61_000  # ids that nobody has, from here on


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)


@dataclass
class Machine:
    """A folder with a home and a clone in it, and a process that runs `genwright` there."""

    folder: Path
    environment: dict[str, str]
    group: int | None  # of its own, by which alone it gets into its folder; None: all machines are one user
    others: "list[Machine]" = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def boot(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("machine_forks.py"))]
        with (self.folder / "boot.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*without_rights(self.group), *command], cwd=self.clone, env=self.environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def ask(self, request: dict[str, Any] | None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if request is not None:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, (self.folder / "boot.log").read_text()
        return json.loads(line)

    def start(self, *arguments: str, **environment: str) -> "Command":
        log = self.folder / f"command-{time.monotonic_ns()}"
        pid = self.ask({"arguments": arguments, "log": str(log), "environment": environment})["pid"]
        return Command(self, pid, log)

    def cli(self, *arguments: str, **environment: str) -> Ended:
        with self.others_closed():
            return self.start(*arguments, **environment).end()

    @contextmanager
    def others_closed(self) -> Iterator[None]:
        """Where all machines are one user's: nobody gets into the folders of the others meanwhile."""
        closed = self.others if self.group is None else []
        try:
            for each in closed:
                each.folder.chmod(0)
            yield
        finally:
            for each in closed:
                each.folder.chmod(0o700)

    def names_in(self, path: Path) -> list[str] | str:
        """What this machine sees in a folder, or the error."""
        with self.others_closed():
            answer = self.ask({"list": str(path)})
        return answer.get("names") or answer.get("error", [])


@dataclass
class Command:
    """A command on its way."""

    machine: Machine
    pid: int
    log: Path

    def end(self) -> Ended:
        code = self.machine.ask({"wait": self.pid})["code"]
        return Ended(code, self.said("out"), self.said("err"))

    def said(self, stream: str) -> str:
        return self.log.with_name(f"{self.log.name}.{stream}").read_text()


def without_rights(group: int | None) -> list[str]:
    """Begins a command that root runs as one who has no right but those of files: it reads what is root's, by another group."""
    return [] if group is None else ["setpriv", f"--regid={group}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]


def root_can_drop_rights() -> bool:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run([*without_rights(GROUPS), "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def office(raw_road: Any, weed: Weed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare git repository with prepared digits, which lie in a DVC remote in S3."""
    from components.data.versions import track

    folder = tmp_path_factory.mktemp("office")
    data = folder / "work" / "data"
    shutil.copytree(raw_road.folder / "data" / "digits", data / "digits")
    git(folder / "work", "init", "-q", "-b", "main")
    for key, value in (("user.email", "t@example.org"), ("user.name", "t"), ("core.hooksPath", os.devnull)):
        git(folder / "work", "config", key, value)
    track(data / "digits")
    remote = {"url": f"s3://{weed.bucket}/dvc", "endpointurl": weed.endpoint}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | weed.environment
    for arguments in (
        ("remote", "add", "--force", "--default", "team", remote["url"]),
        ("remote", "modify", "team", "endpointurl", remote["endpointurl"]),
        ("push", "--quiet"),
    ):
        command = [sys.executable, "-m", "dvc", *arguments]
        subprocess.run(command, cwd=folder / "work", env=environment, check=True, capture_output=True)
    git(folder / "work", "add", "-A")
    git(folder / "work", "commit", "-qm", "digits")
    git(folder, "clone", "-q", "--bare", "work", "origin.git")
    return folder / "origin.git"


def git(where: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True)


@pytest.fixture(scope="module")
def machines(office: Path, weed: Weed, team_mlflow: str, raw_road: Any) -> Iterator[list[Machine]]:
    """Three. They share an S3 store, the DVC remote in it and an MLflow server, and nothing else."""
    base = Path(tempfile.mkdtemp(prefix="genwright-machines-"))
    base.chmod(0o711)
    apart = root_can_drop_rights()
    found = []
    for at, name in enumerate(("one", "two", "three")):
        folder = base / name
        for part in ("home", "tmp", "user"):
            (folder / part).mkdir(parents=True)
        git(folder, "clone", "-q", str(office), "clone")
        git(folder / "clone", "remote", "remove", "origin")
        machine = Machine(folder, variables(name, folder, weed, team_mlflow), GROUPS + at if apart else None)
        for brief, changes in BRIEFS.items():
            (machine.clone / brief).write_text(yaml.safe_dump(brief_of(raw_road, **changes)))
        if machine.group is not None:
            os.chown(folder, machine.group, machine.group)
        folder.chmod(0o770 if apart else 0o700)
        found.append(machine)
    try:
        for machine in found:
            machine.others = [each for each in found if each is not machine]
            machine.boot()
        for machine in found:
            assert machine.ask(None) == {"ready": True}
        yield found
    finally:
        for machine in found:
            machine.process.kill()
            machine.process.wait()
        shutil.rmtree(base, ignore_errors=True)


def variables(name: str, folder: Path, weed: Weed, team_mlflow: str) -> dict[str, str]:
    """All that a machine is told: nothing of the test's own surroundings."""
    own = {
        "HOME": folder / "user",
        "TMPDIR": folder / "tmp",
        "DVC_SITE_CACHE_DIR": folder / "tmp",
        "GENWRIGHT_HOME": folder / "home",
    }
    team = {"GENWRIGHT_STORE": f"s3://{weed.bucket}/team", "GENWRIGHT_S3_ENDPOINT": weed.endpoint}
    team |= {"GENWRIGHT_TRACKING_URI": team_mlflow, "GENWRIGHT_ACTOR": name}
    kept = {each: os.environ[each] for each in ("PATH", "OMP_NUM_THREADS", "LANG") if each in os.environ}
    return kept | weed.environment | team | {each: str(path) for each, path in own.items()}


# A latent diffusion model, the smallest: it has a latent space to walk in, and students.
LATENT = {"family": "diffusion", "variant": "latent"}
TINY = {"width": 32, "widths": [1], "attention": False, "steps": 2, "autoencoder_width": 16}
BRIEFS: dict[str, dict[str, Any]] = {
    "brief.yaml": {"compute": {"items_seen": 12_000, "device": "cpu", "threads": 1}},
    "again.yaml": {"seed": 1},
}


def brief_of(road: Any, **changes: Any) -> dict[str, Any]:
    """The brief of the tests' roads, with data by a path that means the same in every clone."""
    brief = json.loads(road.brief().model_dump_json(exclude_unset=True))
    return brief | {"data": {"path": "data/digits"}, "override": LATENT | {"config": TINY}} | changes
