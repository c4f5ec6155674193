"""The same road on MNIST, fetched from a mirror folder by its DVC stage: data of another size, a sampler of many steps."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
MIRROR = os.environ.get("GENWRIGHT_DATA_MIRROR")
SMALL = {"config": {"width": 32, "blocks": 1, "steps": 6}}


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.skipif(not MIRROR, reason="GENWRIGHT_DATA_MIRROR names no mirror")
def test_mnist_is_produced_from_a_mirror(road_in: Any, lenient: dict[str, Any], tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml", "dvc.lock"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    brief = yaml.safe_load((REPOSITORY / "briefs" / "mnist.yaml").read_text())
    brief |= {"compute": {**brief["compute"], "items_seen": 6_000}, "gates": lenient, "override": SMALL}
    (tmp_path / "mnist.yaml").write_text(yaml.safe_dump(brief))
    road = road_in(tmp_path)
    ran = road.cli("produce", "mnist.yaml", timeout_s=880, GENWRIGHT_DATA_MIRROR=str(Path(str(MIRROR)).absolute()))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "mnist: 70,000 items of 28x28x1" in ran.stdout
    release = road.backends().versions.resolve("mnist")
    assert (release.version, release.aliases) == (1, ("champion",))
    assert "diffusion/edm, trained from scratch" in ran.stdout
    assert len(road.backends().registry.ledger.entries("mnist")) == 1
