"""`genwright gc` beside productions, at age 0 and without a pause; and on S3."""

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
from components.core.errors import GateRefused
from components.operations.unused import free
from components.pipeline import existing, release_commands
from components.pipeline.backends import Backends
from components.pipeline.loaded_model import load_model
from components.pipeline.resolve import resolve
from flows.settings import Settings

# Frees whatever nothing needs, again and again, until a file appears; says how often it did, and how much went.
LOOP = """
import sys
from pathlib import Path
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


@pytest.mark.nightly
def test_productions_end_well(first: Any, tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "beside")
    never = {"fd_noise_ratio_max": 1e-9}
    with freeing(road.home, tmp_path / "stop") as said:
        for seed in range(2):
            assert road.produce_here(road.brief(seed=seed)).promoted
        refused = road.produce_here(road.brief(seed=5, gates={**road.brief().gates, **never}))
        assert not refused.promoted
        with pytest.raises(GateRefused):
            existing.refuse_unless_passed(refused)
        assert road.produce_here(road.brief(seed=6)).promoted
    rounds, gone = said
    assert rounds >= 3
    assert gone > 0

    backends = road.backends()
    versions = backends.versions.releases("digits")
    champion = backends.versions.resolve("digits@champion")
    assert champion.version == versions[-1].version
    load_model("digits@champion", backends)
    known = existing.find_existing_result(resolve(road.brief(seed=6), backends), backends)
    assert known is not None, "unchanged, so found again"
    promoted = {entry.to_version for entry in backends.registry.ledger.entries("digits")}
    for version in sorted(promoted - {champion.version}):
        release_commands.rollback("digits", backends, to=version)
        load_model(f"digits/{version}", backends)
    refused_run = backends.workspace.read(store_keys.bundle_file(refused.bundle.sha256), type(refused.bundle.bundle))
    assert refused_run is None, "no alias names it since the next candidate came"


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
    load_model("digits@champion", backends)
