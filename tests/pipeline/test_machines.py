"""One production whose stages run on several machines: each has a home, a checkout and a working folder of its own."""

import json
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.brief import read_brief
from components.pipeline.backends import Backends
from components.pipeline.production import STAGES
from components.pipeline.resolve import resolve
from components.pipeline.run import record_key
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
    shared = {"store": one.environment["GENWRIGHT_STORE"], "tracking_uri": one.environment["GENWRIGHT_TRACKING_URI"]}
    backends = Backends(Settings(home=one.home, **shared))
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
