"""`genwright distil`: students of a release, the curve, and the fastest one that every gate passed as a model of its own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from flows import distilling
from flows.moves import bundle_of

if TYPE_CHECKING:
    from tests.flows.conftest import Command

TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())


def test_what_is_no_diffusion_model_is_refused(cli: "Command", home: Path) -> None:
    cli("distil", "digits").refused(2, "vae/gaussian cannot be distilled", "diffusion/ddpm")
    cli("distil", "digits", "--device", "tpu").refused(2, "--device tpu", "auto, cpu, cuda")
    cli("distil", "nothing").refused(2, "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["ddpm", "edm"])
def test_the_fastest_student_that_passes_is_released_with_its_lineage(first: Any, variant: str, tmp_path: Path) -> None:
    road = first.road.beside(tmp_path / "road")
    place = road.place()
    config = TINY[f"diffusion/{variant}"] | {"steps": 8}
    brief = road.brief(name="many", override={"family": "diffusion", "variant": variant, "config": config})
    teacher = _produced(brief, road)
    wish = ("--minutes", "0.1", "--steps", "2,1", "--latency-ms", "5000")
    ran = road.cli("distil", "many", *wish, "--json")
    assert ran.returncode == 0, ran.stderr
    curve = json.loads(ran.stdout)["curve"]
    assert [each["steps"] for each in curve["tried"]] == [2, 1]
    assert curve["teacher"]["bundle_sha256"] == teacher.bundle_sha256
    passed = [each["latency_p95_ms"]["value"] for each in curve["tried"] if each["verdict"] == "pass"]
    assert curve["tried"][curve["chosen"]]["latency_p95_ms"]["value"] == min(passed)
    release = place.versions.resolve("many-distilled@champion")
    bundle = bundle_of(release, place)[1]
    assert bundle.lineage.teacher == bundle.gates.champion == teacher.bundle_sha256
    assert distilling.picture_of("many-distilled", place).read_bytes().startswith(b"\x89PNG")
    assert distilling.stale(bundle, place) is None
    _again_trains_nothing(road, wish)
    newer = _produced(brief.model_copy(update={"seed": 1}), road)
    assert newer.bundle_sha256 != teacher.bundle_sha256
    assert f"version {newer.version} is; genwright distil many" in str(distilling.stale(bundle, place))
    assert "stale: its teacher" in road.cli("explain", "many-distilled").stdout


def _again_trains_nothing(road: Any, wish: tuple[str, ...]) -> None:
    weights = [*(road.home / "work").rglob("weights.safetensors")]
    before = [path.stat().st_mtime_ns for path in weights]
    ran = road.cli("distil", "many", *wish)
    assert ran.returncode == 0, ran.stderr
    assert "Students of many version 1" in ran.stdout
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert road.place().versions.resolve("many-distilled@champion").version == 1


def _produced(brief: Any, road: Any) -> Any:
    ran = road.cli("produce", str(road.write(brief)), "--json")
    assert ran.returncode == 0, ran.stderr
    return road.place().versions.resolve(f"{brief.name}@champion")
