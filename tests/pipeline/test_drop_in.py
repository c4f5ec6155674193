"""The test of the house: one more of each kind, as files and folders and with no other edit, takes a brief to a served reply.

tests/drop_in holds a modality (series of 64 numbers), a family for it, a data source, a metric, a gate, a start, a scheme of
stores and an engine. They are laid over a copy of the package.
"""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from roads import LENIENT, Road, served

import components
from components.pipeline.order import STAGES

DROPPED = Path(__file__).parents[1] / "drop_in"


@pytest.fixture
def road(tmp_path: Path) -> Road:
    """A folder with a copy of the package in which they were dropped; its store and its engine are among them."""
    package, root = tmp_path / "package", Path(components.__file__).parents[1]
    for name in ("components", "flows"):
        shutil.copytree(root / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = {path.relative_to(package) for path in package.rglob("*")}
    shutil.copytree(DROPPED, package, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    dropped = {path.relative_to(DROPPED) for path in DROPPED.rglob("*.py")}
    assert not before & dropped, "nothing that is there is edited"
    assert len(dropped) == 9
    environment = {
        "PYTHONPATH": str(package),
        "GENWRIGHT_STORE": f"shelf://{tmp_path / 'store'}",
        "GENWRIGHT_ENGINE": "aloud",
    }
    (tmp_path / "road").mkdir()
    return Road(tmp_path / "road", environment)


def ran(road: Road, *arguments: str) -> str:
    done = road.cli(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_one_more_of_each_kind_goes_down_the_whole_road(road: Road) -> None:
    from mlflow import MlflowClient

    _check_offered(road)
    said = ran(road, "data", "prepare", "sines", "--to", "data/sines")
    assert "1,600 items of 64" in said
    brief = {
        "name": "waves",
        "modality": "series",
        "data": {"path": "data/sines", "rev": "workspace"},
        "override": {"family": "parametric", "mode": "calm", "config": {"lr_peak": 0.02, "batch_size": 32, "ema_decay": 0.9}},
        "compute": {"items_seen": 20_000, "device": "cpu", "threads": 1},
        "gates": LENIENT | {"graininess_max": 0.6, "surplus_max": 0.9},
    }
    path = road.folder / "brief.yaml"
    path.write_text(yaml.safe_dump(brief | {"gates": {"graininess_min": 1}}))
    wrong = road.cli("plan", str(path))
    assert wrong.returncode == 2
    assert f"{path}: gates.graininess_min: unknown key; allowed: distance_ratio_max," in wrong.stderr
    assert "graininess_max" in wrong.stderr
    path.write_text(yaml.safe_dump(brief))
    assert "parametric/gaussian" in ran(road, "plan", str(path))
    produced = json.loads(ran(road, "produce", str(path), "--json"))
    bundle, verdicts = produced["bundle"]["bundle"], {each["gate"]: each["verdict"] for each in produced["gates"]["gates"]}
    assert bundle["spec"]["item"] == {"modality": "series", "length": 64}
    assert (bundle["family"], bundle["lineage"]["decision"]["mode"], produced["promoted"]) == ("parametric", "calm", True)
    assert (verdicts["graininess_max"], verdicts["surplus_max"]) == ("pass", "pass")
    metrics = {name: each["value"] for name, each in bundle["scorecard"]["metrics"].items()}
    assert 0.2 < metrics["graininess"] < 0.6
    assert metrics["fd_noise_ratio"] < 0.2, "it has learnt"
    tracked = MlflowClient(road.backends().settings.mlflow_uri).get_run(produced["release"]["run_id"])
    assert tracked.data.metrics["proof/graininess"] == metrics["graininess"]
    assert (road.home / "stages.txt").read_text().split() == [stage.name for stage in STAGES]
    assert (road.folder.parent / "store" / "shelf" / "bundles" / produced["bundle"]["sha256"] / "bundle.json").is_file()
    assert "waves" in ran(road, "explain", "waves")
    _check_served(road)


def _check_offered(road: Road) -> None:
    """The command line offers the option of the modality, and lists the source."""
    offered = " ".join(ran(road, "data", "prepare", "--help").replace("│", " ").split())
    assert "sines, uci-digits, or the path of" in offered
    assert "--every" in offered
    assert "of series: keep every n-th number" in offered
    assert "1,600 items of 32" in ran(road, "data", "prepare", "sines", "--to", "data/half", "--every", "2")
    for options in (("sines", "--side", "8"), ("uci-digits", "--every", "2")):
        refused = road.cli("data", "prepare", *options, "--to", "data/none")
        assert refused.returncode == 2
        assert f"{options[1]} given for the modality" in refused.stderr
    assert road.cli("data", "prepare", "sines", "--to", "data/none", "--every", "0").returncode == 2


def _check_served(road: Road) -> None:
    with served(road, "waves") as address:

        def ask(**body: Any) -> httpx.Response:
            reply = httpx.post(f"{address}/v1/generate", json=body)
            assert reply.status_code == 200, reply.text
            return reply

        one = ask(seed=7)
        assert one.headers["content-type"].startswith("text/csv")
        values = np.array(one.text.split(","), np.float32)
        assert values.shape == (64,)
        assert np.corrcoef(values, np.sin(np.linspace(0, 2 * np.pi, 64)))[0, 1] > 0.7
        several = np.load(io.BytesIO(ask(seeds=[7, 8], format="npy").content))
        assert np.array_equal(several[0], values)
        assert ask(count=4, format="grid").content.startswith(b"\x89PNG")
        assert httpx.post(f"{address}/v1/generate", json={"format": "png"}).status_code == 422
        (described,) = httpx.get(address, headers={"Accept": "application/json"}).json()["models"]
        assert (described["modality"], described["size"], list(described["formats"])) == ("series", "64", ["csv", "npy", "grid"])
