"""Sixteen schedulers fire one slot at once: one version, and sixteen ends that say so."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SCHEDULER = """
import json, sys
from pathlib import Path
from components.pipeline import production, triggers
from components.pipeline.resolve import resolve_file
from flows.settings import load_backends

backends = load_backends()
trigger = triggers.trigger_of("cron", "2026-11-30T03:00:00+00:00", f"scheduler {sys.argv[2]}")
print("ready", flush=True)
sys.stdin.readline()
resolved = lambda path: resolve_file(Path(path), backends)
ending = triggers.retrain(Path(sys.argv[1]), trigger, backends, resolved, production.in_process(backends))
print(json.dumps([ending.name, ending.sentence]))
"""


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_sixteen_schedulers_that_fire_one_slot_make_one_version(first: Any, tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "road")
    brief = str(road.write(road.brief()))
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": road.variables()}
    schedulers: list[subprocess.Popen[str]] = [
        subprocess.Popen([sys.executable, "-c", SCHEDULER, brief, str(number)], cwd=Path(__file__).parents[2], **piped)  # type: ignore[call-overload]
        for number in range(16)
    ]
    try:
        for each in schedulers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in schedulers:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        endings = [json.loads(each.communicate(timeout=600)[0].splitlines()[-1]) for each in schedulers]
    finally:
        for each in schedulers:
            each.kill()
            each.wait()
    assert Counter(name for name, _ in endings) == {"Promoted": 1, "Unchanged": 15}
    assert all("the slot 2026-11-30 03:00 UTC" in sentence for name, sentence in endings if name == "Unchanged")
    backends = road.backends()
    assert [each.version for each in backends.versions.releases("digits")] == [1]
    assert len(backends.registry.ledger.entries("digits")) == 1
