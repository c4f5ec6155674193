"""`genwright gc` beside productions, at age 0 and without a pause; and on S3."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Weed

from components.core import store_keys
from components.core.records import Artifact
from components.operations.unused import free
from components.pipeline import release_commands
from components.pipeline.backends import Backends
from components.pipeline.extractor import load_extractor
from components.pipeline.loaded_model import load_model, training_of
from components.pipeline.local_data import data_of
from components.pipeline.resolve import resolve
from flows.settings import Settings

# Frees whatever nothing needs, again and again, until a file appears; says how often it did, and how much went.
LOOP = """
import sys
from pathlib import Path
from components.core.records import Artifact
from components.operations.unused import free
from components.pipeline.backends import Backends
from flows.settings import Settings
home, stop, rounds, gone = Path(sys.argv[1]), Path(sys.argv[2]), 0, []
while not stop.exists():
    free.free(Backends(Settings(home=home)), older_s=0, after=gone.append)
    rounds += 1
print(rounds, len(gone))
"""


@contextmanager
def freeing(home: Path, stop: Path) -> Iterator[list[int]]:
    """A process that frees meanwhile; what it said at its end."""
    process = subprocess.Popen([sys.executable, "-c", LOOP, str(home), str(stop)], stdout=subprocess.PIPE, text=True)
    said: list[int] = []
    try:
        yield said
    finally:
        stop.touch()
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    said += map(int, out.split())


def age(folder: Path, days: float = 30) -> None:
    then = time.time() - days * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


@pytest.mark.nightly
def test_productions_end_well(first: Any, tmp_path: Path) -> None:
    """One begins with what is freed at that moment, the next with a training that is kept, as all is old."""
    road = first.road.beside(tmp_path / "beside")
    backends = road.backends()
    strict = road.brief(seed=5, gates={**road.brief().gates, "fd_noise_ratio_max": 1e-9})
    refused = road.produce_here(strict)
    assert road.produce_here(road.brief(seed=0)).promoted
    for key in (store_keys.artifact("c" * 64, "orphan"), store_keys.run_record("letters", "a" * 64, "train")):
        backends.store.put_if_absent(key, b"{}")
    age(backends.home.store)
    with freeing(road.home, tmp_path / "stop") as said:
        again = road.produce_here(strict)
        assert (again.promoted, again.gates.verdict) == (False, refused.gates.verdict)
        other = road.produce_here(road.brief(seed=0, gates={**road.brief().gates, "coverage_min": 0.001}))
        assert other.promoted
    rounds, gone = said
    assert rounds >= 2
    assert gone >= 2

    free.free(backends, older_s=0)
    champion = backends.versions.resolve("digits@champion")
    assert champion.bundle_sha256 == other.bundle.sha256
    for version in sorted({entry.to_version for entry in backends.registry.ledger.entries("digits")}):
        release_commands.rollback("digits", backends, to=version)
        load_model(f"digits/{version}", backends)
    for each in (refused, again):
        assert backends.store.get(store_keys.bundle_file(each.bundle.sha256)) is None, "the next candidate has its alias"


@pytest.mark.slow
def test_on_s3(home: Path, weed: Weed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    local = Backends(Settings(home=home)).store
    backends = Backends(Settings(home=home, store=f"s3://{weed.bucket}/gc-{time.time_ns()}", s3_endpoint=weed.endpoint))
    for key in local.list(""):
        found = local.get(key)
        assert found is not None
        backends.store.put_if_absent(key, found[0])
    kept = set(backends.store.list(""))
    orphan = store_keys.artifact("c" * 64, "orphan")
    backends.store.put_if_absent(orphan, b"0" * 100)
    time.sleep(1.1)  # it tells whole seconds
    assert free.show(backends, older_s=0).room == {"files": (1, 100)}
    assert free.free(backends, older_s=0).room == {"files": (1, 100)}
    assert set(backends.store.list("")) == kept
    release = backends.versions.resolve("digits@champion")
    _, bundle = release_commands.bundle_of(release, backends)
    _, trained = training_of(release, bundle.lineage, backends)
    assert backends.workspace.open(trained.checkpoint.weights).is_file()


@pytest.mark.nightly
def test_an_extractor_that_goes_while_it_is_read_is_made_again(
    first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = first.road.beside(tmp_path / "beside")
    backends = road.backends()
    data = data_of(resolve(road.brief(), backends), backends)
    before = load_extractor(data, backends)
    shutil.rmtree(backends.home.extractors)
    holds, left = backends.workspace.holds, [1]

    def hold_and_free(*artifacts: Artifact) -> bool:
        held = holds(*artifacts)
        for artifact in artifacts if left and held else ():
            backends.store.delete(store_keys.artifact(artifact.sha256, artifact.name))
            left.clear()
        return held

    monkeypatch.setattr(backends.workspace, "holds", hold_and_free)
    assert load_extractor(data, backends).sha256 == before.sha256
    assert not left
