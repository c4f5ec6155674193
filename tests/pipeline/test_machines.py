"""One production whose stages run on several machines: each has a home, a checkout and a working folder of its own."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.brief import read_brief
from components.pipeline.backends import Backends
from components.pipeline.production import STAGES
from components.pipeline.resolve import resolve
from components.pipeline.run import folder_of, record_key
from flows.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def machines(first: Any, road_in: type[Any], empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Three that share a store and MLflow's database, and nothing else."""
    shared = tmp_path_factory.mktemp("shared")
    shutil.copy(empty_store, shared / "mlflow.db")
    found = []
    for name in ("one", "two", "three"):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(first.road.folder / "data", folder / "data")
        road = road_in(
            folder, {"GENWRIGHT_STORE": str(shared / "store"), "GENWRIGHT_TRACKING_URI": f"sqlite:///{shared}/mlflow.db"}
        )
        brief = json.loads(road.brief().model_dump_json(exclude_unset=True)) | {"data": {"path": "data/digits"}}
        (folder / "brief.yaml").write_text(yaml.safe_dump(brief))
        found.append(road)
    return found


def words(document: Any) -> Iterator[str]:
    """Every string in a JSON document."""
    if isinstance(document, dict):
        document = [*document, *document.values()]
    if isinstance(document, list):
        for each in document:
            yield from words(each)
    elif isinstance(document, str):
        yield document


def test_every_stage_on_another_machine(machines: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = machines
    monkeypatch.chdir(one.folder)
    backends = shared_backends(one)
    run = resolve(read_brief(one.folder / "brief.yaml"), backends, base=one.folder)
    backends.workspace.write(record_key(run, "run"), run)
    name = f"digits/{run.key('seal')}"
    early = two.cli("stage", "export", "--run", name)
    assert (early.returncode, "its stage train has not run yet; genwright stage train first" in early.stderr) == (2, True)
    for stage, machine in zip(STAGES, cycle((two, three, one)), strict=False):
        ran = machine.cli("stage", stage.name, "--run", name)
        assert ran.returncode == 0, ran.stderr
    again = two.cli("train", "--run", name, "--json")
    assert json.loads(again.stdout)["checkpoint"]["items_seen"] >= 4000
    # What one made the others serve, walk in, roll back, and do not make again.
    produced = three.cli("produce", "brief.yaml")
    assert produced.returncode == 0, produced.stderr
    assert "nothing to do" in produced.stdout
    walked = three.cli("latent", "traverse", "digits", "--out", "walk.png")
    assert walked.returncode == 0, walked.stderr
    assert (three.folder / "walk.png").read_bytes().startswith(b"\x89PNG")
    store = backends.store
    for key in (key for key in store.list("runs/") if key.endswith(".json")):
        found = store.get(key)
        assert found is not None
        paths = [word for word in words(json.loads(found[0])) if word.startswith(("/", "file://")) and "bundles" not in word]
        assert not paths, key


def test_a_training_killed_on_one_is_finished_by_another_with_the_same_bits(
    machines: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two, three = machines
    brief = yaml.safe_load((one.folder / "brief.yaml").read_text())
    brief |= {"seed": 3, "compute": {**brief["compute"], "items_seen": 40_000}}
    for machine in machines:
        (machine.folder / "longer.yaml").write_text(yaml.safe_dump(brief))
    monkeypatch.chdir(two.folder)
    backends = shared_backends(two)
    run = resolve(read_brief(two.folder / "longer.yaml"), backends, base=two.folder)
    backends.workspace.write(record_key(run, "run"), run)
    name, folder = f"digits/{run.key('seal')}", folder_of(run, backends, "train") / "train"
    command = [sys.executable, "-m", "flows", "train", "--run", name]
    with (tmp_path / "log").open("wb") as log:
        killed = subprocess.Popen(command, cwd=two.folder, env=two.variables(), stdout=log, stderr=log)
    until((folder / "best" / "checkpoint.json").exists, killed, tmp_path / "log")
    killed.kill()
    killed.wait()
    saved = f"runs/digits/{run.key('train')}/state/saved.json"
    until(lambda: backends.store.get(saved) is not None, None, tmp_path / "log")  # by its worker, which is alone now
    shutil.rmtree(two.home)
    ran = three.cli("train", "--run", name, "--json")
    assert ran.returncode == 0, ran.stderr
    resumed = json.loads(ran.stdout)
    assert backends.store.get(saved) is None
    own = {"GENWRIGHT_STORE": str(tmp_path / "store"), "GENWRIGHT_TRACKING_URI": ""}
    elsewhere = Backends(Settings(home=one.home, store=own["GENWRIGHT_STORE"]))
    elsewhere.workspace.write(record_key(run, "run"), run)
    ran = one.cli("train", "--run", name, "--json", **own)
    assert ran.returncode == 0, ran.stderr
    whole = json.loads(ran.stdout)
    assert whole["run_id"] != resumed["run_id"]
    assert resumed["checkpoint"]["weights"] == whole["checkpoint"]["weights"]
    assert resumed["checkpoint"]["steps_total"] == whole["checkpoint"]["steps_total"]


def until(true: Callable[[], bool], process: "subprocess.Popen[bytes] | None", log: Path) -> None:
    end = time.monotonic() + 200
    while not true():
        assert process is None or process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def shared_backends(machine: Any) -> Backends:
    named = machine.environment
    settings = Settings(home=machine.home, store=named["GENWRIGHT_STORE"], tracking_uri=named["GENWRIGHT_TRACKING_URI"])
    return Backends(settings)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("stage", "paint", "--run", "digits/0"), "stage paint; allowed: train, export, prove, seal, register, promote"),
        (("train", "--run", "digits/0"), "--run digits/0: no such run in"),
        (("train", "--run", "digits"), "allowed: MODEL/KEY"),
    ],
)
def test_a_stage_or_run_that_is_not_there_is_refused(machines: list[Any], arguments: tuple[str, ...], says: str) -> None:
    ran = machines[0].cli(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
