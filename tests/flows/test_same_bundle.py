"""Five briefs, three engines: each brief makes the same bundle, whatever runs its stages."""

from pathlib import Path
from typing import Any

import pytest
from roads import SMALL, bundles_of

BRIEFS: dict[str, dict[str, Any]] = {
    "classes": {"override": SMALL, "conditioning": "class"},
    "fast": {"override": SMALL, "serving": {"latency_ms": 500.0, "batch": 4, "output": "uint8"}},  # with a gate on its latency
    "players": {"override": {"family": "gan", "variant": "dcgan", "config": {"width": 16}}},
    "steps": {"override": {"family": "diffusion", "variant": "edm", "config": {"width": 16, "steps": 4}}},
    "exact": {"override": {"family": "flow", "variant": "realnvp"}, "seed": 7},
}


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BRIEFS)
def test_a_brief_makes_the_same_bundle_in_this_process_through_prefect_and_through_kfp(
    first: Any, tmp_path: Path, prefect_api: str, name: str
) -> None:
    road = first.road
    compute = {"items_seen": 1000, "device": "cpu", "threads": 1}
    brief = str(road.write(road.brief(name=name, compute=compute, **BRIEFS[name]), f"{name}.yaml"))
    engines = {
        "process": (["produce", brief], {"GENWRIGHT_ENGINE": "process"}),
        "prefect": (["produce", brief], {"PREFECT_API_URL": prefect_api}),
        "kfp": (["kubeflow", "run-local", brief], {}),
    }
    made = {}
    for engine, (command, environment) in engines.items():
        home = road.new_home(tmp_path / engine)
        ran = road.cli(*command, GENWRIGHT_HOME=str(home), **environment)
        assert ran.returncode == 0, f"{engine}: {ran.stdout}{ran.stderr}"
        (made[engine],) = bundles_of(home)
    assert len(set(made.values())) == 1, made
