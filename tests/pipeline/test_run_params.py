"""What of a run stands in MLflow: which adapters mlflow.diffusers is to load, and how it finds their base."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.pipeline.run_params import adapter_of

FILES = [Path("adapter_config.json"), Path("adapter_model.safetensors")]
WEIGHTS = SimpleNamespace(sha256="a" * 64)


def run(*, base: str = "", published: bool = True, origin: str = "", commit: bool = True) -> Any:
    """A run whose base is a release of this name, or the foreign model itself, which it all began with."""
    revision = origin.partition("@")[2] if commit else None
    made = SimpleNamespace(name=origin, weights=WEIGHTS, revision=revision) if origin else None
    weights = WEIGHTS if published else SimpleNamespace(sha256="b" * 64)
    foreign = None if base else made
    own = SimpleNamespace(name=base or origin, foreign=foreign, checkpoint=SimpleNamespace(weights=weights))
    return SimpleNamespace(base=own, origin=made)


@pytest.mark.parametrize(
    ("given", "named", "revision"),
    [
        ({"origin": "hf:google/ddpm@1234abcd"}, "google/ddpm", "1234abcd"),
        ({"origin": "butterflies@77aa", "commit": False}, "butterflies@77aa", None),
        ({"origin": "hf:google/ddpm@77aa", "commit": False}, "google/ddpm", None),
        ({"origin": "hf:google/ddpm@1234abcd", "base": "imported/1"}, "google/ddpm", "1234abcd"),
        ({"origin": "hf:google/ddpm@1234abcd", "base": "tuned/2", "published": False}, "models:/tuned/2", None),
    ],
    ids=["of the hub", "a folder", "a mirror of the hub, by its digest", "imported from the hub", "a release that was tuned"],
)
def test_the_base_is_named_as_another_program_finds_it(given: dict[str, Any], named: str, revision: str | None) -> None:
    found = adapter_of(run(**given), FILES)
    assert found is not None
    assert (found.files, found.base_model, found.revision) == (tuple(FILES), named, revision)


def test_without_files_a_base_or_a_pipeline_of_diffusers_there_is_none() -> None:
    assert adapter_of(run(origin="hf:google/ddpm@1234abcd"), []) is None
    assert adapter_of(run(base="ours/1"), FILES) is None
    assert adapter_of(SimpleNamespace(base=None, origin=None), FILES) is None  # type: ignore[arg-type]
