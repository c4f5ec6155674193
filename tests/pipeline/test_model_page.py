"""The page that MLflow shows of a registered model: of its champion, after whatever changed it, below what people wrote."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from components.core.errors import RegistryError
from components.core.records import Release
from components.pipeline.backends import Backends
from components.pipeline.model_page import page_of
from components.pipeline.release_commands import bundle_of
from components.registry.mlflow_store import connect
from components.registry.versions import DESCRIPTION_MAX, PAGE
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command


def page(home: Path) -> str:
    return str(connect(f"sqlite:///{home / 'mlflow.db'}").get_registered_model("digits").description)


def test_it_says_what_is_champion_why_how_good_it_is_and_from_which_brief(home: Path) -> None:
    told, versions = page(home), Backends(Settings(home=home)).versions
    links = versions.links(versions.resolve("digits"))
    assert "It makes image items of 8x8x1: `vae/gaussian`, trained on `data/digits`, version `" in told
    assert f"**Version 1 is champion.** [run]({links['run']}) · [model]({links['model']}) · bundle `" in told
    assert re.search(r"\| FD-local \| [\d.]+ \| [\d.]+ to [\d.]+ \|", told)
    assert "## Gates: pass\n- " in told
    assert "## Decision\n- " in told
    assert "name: digits\n" in told
    assert len(told) <= DESCRIPTION_MAX


def test_its_example_runs_as_it_stands(home: Path, monkeypatch: pytest.MonkeyPatch, first: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    (example,) = re.findall(r"```python\n(.*?)```", page(home), re.DOTALL)
    made: dict[str, Any] = {}
    exec(example, made)
    assert made["items"].shape == (16, 1, 8, 8)
    assert np.abs(made["items"]).max() <= 1


def test_it_follows_the_champion_and_keeps_what_people_wrote(home: Path, cli: "Command", registered_as: Any) -> None:
    client = connect(f"sqlite:///{home / 'mlflow.db'}")
    client.update_registered_model("digits", f"Ours. Ask Ada.\n\n{PAGE}\n\nold")
    backends = Backends(Settings(home=home))
    registered_as("digits", latent=False)  # as an earlier genwright did, without a LoggedModel
    cli("promote", "digits/2", "--force", "--why", "a test")
    assert page(home).startswith(f"Ours. Ask Ada.\n\n{PAGE}\n\nIt makes image items")
    links = backends.versions.links(backends.versions.resolve("digits"))
    assert f"**Version 2 is champion.** [run]({links['run']}) · bundle `" in page(home)
    assert list(links) == ["run"]
    assert "MLflow has no model to load: `genwright serve digits`" in page(home)
    cli("rollback", "digits")
    assert "**Version 1 is champion.**" in page(home)
    client.update_registered_model("digits", "all of it was deleted")
    cli("reconcile", "digits")
    assert page(home).startswith(f"all of it was deleted\n\n{PAGE}\n\nIt makes")


def test_a_page_that_cannot_be_written_stops_no_promotion(
    home: Path, cli: "Command", registered_as: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RegistryError("MLflow is away")

    registered_as("digits", latent=False)
    monkeypatch.setattr("components.registry.versions.Versions.describe", refuse)
    said = cli("promote", "digits/2", "--force", "--why", "a test")
    assert (said.code, "digits version 2 is champion now" in said.out) == (0, True)
    assert said.err == "genwright: digits: its page in MLflow is of before: MLflow is away\n"


def test_what_waits_for_its_promotion_is_said_to_and_a_long_page_is_cut(home: Path) -> None:
    backends = Backends(Settings(home=home))
    bundle = bundle_of(backends.versions.resolve("digits"), backends)[1]
    gates = bundle.gates.model_copy(update={"verdict": "fail"})
    waiting = Release(model="digits", version=3, bundle_sha256="c" * 64, run_id="r")
    told = page_of(waiting, bundle.model_copy(update={"gates": gates}), None, links={"model": "#/m"})
    assert "**Version 3 waits, its gates say fail; no version is champion.** [model](#/m) · bundle `cccccccccccc`" in told
    assert 'load_model("models:/digits/3")' in told
    backends.versions.describe("digits", "a line\n" * 2000)
    assert len(page(home)) <= DESCRIPTION_MAX
    assert page(home).endswith("\na line\n…")
