"""kill -9 between any two steps after training, then the same again: one version, one entry, nothing half-written."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.pipeline import stages
from components.pipeline.lease import lease
from components.pipeline.resolve import resolve

# All that changes something for good between training and the end, in order: files that appear, and calls of MLflow.
EXPORTING = ("store/artifacts/SHA/model.onnx", "store/runs/digits/SHA/export.json")
# Two networks that only proofs use, of one kind: the second is trained as the first.
NETWORKS = tuple(
    name
    for part in range(2)
    for name in (
        "store/artifacts/SHA/weights.safetensors", "store/artifacts/SHA/extractor.json",
        f"store/extractors/MD5/proof-{part}-1.json",
    )
)  # fmt: skip
PROVING = (
    *NETWORKS,
    "store/evidence/table.json", "store/artifacts/SHA/page.html", "store/artifacts/SHA/samples.png",
    "store/runs/digits/SHA/prove.json",
)  # fmt: skip
RELEASING = (
    "store/bundles/SHA/model.onnx", "store/bundles/SHA/samples.png",
    "store/bundles/SHA/reference.u8", "store/bundles/SHA/bundle.json", "store/runs/digits/SHA/seal.json",
    "create_registered_model", "create_logged_model", "finalize_logged_model", "create_model_version",
    "set_registered_model_alias candidate",
    "store/ledger/digits/00000001.json", "set_registered_model_alias champion", "delete_registered_model_alias candidate",
    "store/channels/digits.json", "store/runs/digits/SHA/promote.json",
)  # fmt: skip


class Forks:
    """Runs the stages after training in processes that may be killed, each forked from one that has imported everything."""

    def __init__(self, database: Path) -> None:
        command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "road_forks.py"), str(database)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, road: Any, *, kill: str | None = None, look: bool = False) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"home": str(road.home), "brief": road.brief().model_dump(mode="json"), "kill": kill, "look": look}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


@pytest.fixture(scope="module")
def forks(first: Any) -> Iterator[Forks]:
    forks = Forks(first.road.home / "mlflow.db")
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def trained(first: Any, trains_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A road whose brief is trained and no more, with a copy of its home."""
    road = first.road.beside(tmp_path_factory.mktemp("killed") / "road")
    backends = road.backends()
    with trains_here(), lease("digits", backends) as held:
        stages.train(resolve(road.brief(), backends), held, backends)
    shutil.copytree(road.home, road.folder / "trained")
    return road


def restore(road: Any, name: str) -> None:
    shutil.rmtree(road.home)
    shutil.copytree(road.folder / name, road.home)


def assert_whole(told: dict[str, Any], stands: dict[str, Any]) -> None:
    """One version, one entry, one bundle, all of them the same; once more, and nothing would be done."""
    assert told["code"] == 0, told
    assert told["produced"]["promoted"]
    (release,), (entry,) = stands["releases"], stands["entries"]
    assert (release["version"], release["aliases"]) == (1, ["champion"])
    assert (entry["sequence"], entry["to_version"], entry["to_bundle"]) == (1, 1, release["bundle_sha256"])
    channel = {"model": "digits", "version": 1, "bundle_sha256": release["bundle_sha256"], "sequence": 1}
    assert stands["channel"] == channel
    assert stands["bundles"] == [release["bundle_sha256"]]
    assert stands["standing"] == release


@pytest.mark.slow
def test_the_points_to_be_killed_at_are_all_there_are(trained: Any, forks: Forks) -> None:
    restore(trained, "trained")
    assert tuple(forks.run(trained)["events"]) == EXPORTING + PROVING + RELEASING


@pytest.fixture(scope="module")
def homes(trained: Any, forks: Forks) -> Any:
    """The road, with copies of its home after the export and after the proof, too."""
    restore(trained, "trained")
    for name, following in (("exported", PROVING[0]), ("proved", RELEASING[0])):
        assert forks.run(trained, kill=following) == {"code": -signal.SIGKILL}
        shutil.copytree(trained.home, trained.folder / name)
    return trained


OTHERS = (  # of a kind with the one before, or a call of the registry, whose kills are laws of tests/registry/test_release.py
    "store/artifacts/SHA/samples.png", "create_registered_model", "store/runs/digits/SHA/seal.json", "store/channels/digits.json",
    "store/bundles/SHA/samples.png", "store/bundles/SHA/reference.u8", "set_registered_model_alias candidate",
    "set_registered_model_alias champion", "delete_registered_model_alias candidate", "create_logged_model",
    "store/artifacts/SHA/model.onnx", "store/artifacts/SHA/page.html",
)  # fmt: skip
POINTS = [
    pytest.param(home, name, id=f"before {name}", marks=pytest.mark.nightly if name in OTHERS else pytest.mark.slow)
    for home, names in (("trained", EXPORTING), ("exported", PROVING), ("proved", RELEASING))
    for name in dict.fromkeys(names)
]


@pytest.mark.parametrize(("home", "kill"), POINTS)
def test_the_same_again_finishes_what_a_kill_left(homes: Any, forks: Forks, home: str, kill: str) -> None:
    restore(homes, home)
    assert forks.run(homes, kill=kill) == {"code": -signal.SIGKILL}
    assert_whole(forks.run(homes), forks.run(homes, look=True))
