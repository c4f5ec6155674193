"""Weights that were damaged in a store: one line, its remedy, and the same bits again."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.pipeline.backends import Backends
from components.pipeline.release_commands import bundle_of
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command


@pytest.mark.slow
def test_damaged_weights_are_refused_and_trained_again_to_the_same_bits(
    cli: "Command", home: Path, first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(first.road.folder)
    backends = Backends(Settings(home=home))
    lineage = bundle_of(backends.versions.resolve("digits"), backends)[1].lineage
    path = home / "store" / "artifacts" / lineage.checkpoint_sha256 / "weights.safetensors"
    whole, run = path.read_bytes(), f"digits/{lineage.run_key}"
    picture = ("latent", "traverse", "digits", "--out", home / "walk.png")
    path.unlink()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    cli(*picture).refused(
        1, str(path), "other bytes than its digest says; remove it from the store", "genwright stage NAME --run"
    )
    path.unlink()
    cli(*picture).refused(1, "is not in", f"train it again: genwright train --run {run}")
    assert cli("train", "--run", run, "--json").code == 0
    assert path.read_bytes() == whole
    assert cli(*picture).code == 0

    # The work folder of that training is one file with the store's.
    path.write_bytes(b"damaged in both")
    path.unlink()
    assert cli("train", "--run", run).code == 0
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_a_damaged_graph_is_refused_and_made_again_under_the_same_address(
    cli: "Command", home: Path, first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle's is one file with the export's, so both are damaged."""
    monkeypatch.chdir(first.road.folder)
    backends = Backends(Settings(home=home))
    folder, bundle = bundle_of(backends.versions.resolve("digits"), backends)
    served, run = folder / "model.onnx", f"digits/{bundle.lineage.run_key}"
    exported = home / "store" / "artifacts" / bundle.files[0].sha256 / "model.onnx"
    whole = served.read_bytes()
    served.unlink()
    os.link(exported, served)  # as in the home that this one is a copy of
    served.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = "remove it from the store, and run the stage that makes it again: genwright stage seal --run"
    cli("explain", "digits").refused(1, f"{served}: its SHA-256 is", again)
    served.unlink()
    cli("stage", "seal", "--run", run).refused(
        1, str(exported), "remove it from the store, and run the stage", "genwright stage NAME"
    )
    exported.unlink()
    for stage in ("export", "seal"):
        assert cli("stage", stage, "--run", run).code == 0
    assert served.samefile(exported)
    assert served.read_bytes() == whole
    assert bundle_of(backends.versions.resolve("digits"), backends) == (folder, bundle)
