"""A champion made by hand in MLflow, from the command line: it is seen, served around and put back; and runs left by the dead."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core.errors import BundleError
from components.core.records import LedgerEntry
from components.pipeline import existing, stages
from components.pipeline.backends import Backends
from components.pipeline.lease import lease
from components.pipeline.run import Produced
from components.registry.mlflow_store import connect
from components.registry.owner import PID
from components.registry.tracking import start_run
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command, First

SEEN = "digits: the alias champion is on version 2, which genwright did not make; the ledger's champion is version 1"


def by_hand(home: Path) -> None:
    """A version as MLflow's page makes one, and the alias on it."""
    client = connect(f"sqlite:///{home / 'mlflow.db'}")
    client.create_model_version("digits", "s3://elsewhere")
    client.set_registered_model_alias("digits", "champion", "2")


@pytest.fixture
def foreign(home: Path) -> Path:
    by_hand(home)
    return home


def test_history_and_explain_say_what_differs(cli: "Command", foreign: Path) -> None:
    assert len(cli("history", "digits", "--json").json()) == 1
    assert SEEN in cli("history", "digits", "--json").err
    for command in ("history", "explain"):
        said = cli(command, "digits")
        assert (said.code, said.err) == (0, "")
        assert SEEN in said.out.replace("\n", " ")
        assert "`genwright reconcile digits` puts it back" in said.out.replace("\n", " ")
    assert "digits version 1" in cli("explain", "digits@champion").out
    assert cli("explain", "digits/1").code == 0
    cli("explain", "digits/2").refused(2, "digits/2: no such version of a bundle")


def test_what_needs_the_champion_says_how_to_get_it_back(cli: "Command", foreign: Path) -> None:
    for command in (("promote", "digits@champion"), ("deploy", "digits"), ("deploy", "digits@champion")):
        cli(*command).refused(2, "digits@champion is version 2, which genwright did not make", "genwright reconcile digits")
    assert "names version 1" in cli("deploy", "digits/1").out  # the ledger's champion is the one to deploy


@pytest.mark.parametrize("command", ["reconcile", "rollback"])
def test_one_command_puts_the_champion_back(cli: "Command", foreign: Path, command: str) -> None:
    said = cli(command, "digits")
    assert (said.code, said.err) == (0, "")
    assert "digits version 1 is champion now" in said.out
    assert "version 1, the ledger's champion, has it back" in said.out
    entry = LedgerEntry.model_validate(cli("history", "digits", "--json").json()[-1])
    assert (entry.action, entry.to_version, entry.who, entry.evidence) == ("restore", 1, "tester", {"foreign": 2})
    table = cli("history", "digits")
    assert "restore" in table.out
    assert "did not make; the ledger" not in table.out


def test_proofs_compare_with_the_ledgers_champion(foreign: Path, a_run: Any) -> None:
    backends = Backends(Settings(home=foreign))
    (release,) = backends.versions.releases("digits")
    champion = existing.champion_of("digits", backends)
    assert champion is not None
    assert (champion.version, champion.bundle_sha256) == (1, release.bundle_sha256)
    assert existing.rival_of(a_run, backends) == release.bundle_sha256


def test_a_lost_bundle_is_told_before_anything_is_trained(foreign: Path, a_run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    backends = Backends(Settings(home=foreign))
    shutil.rmtree(foreign / "store" / "bundles")
    lost = r"digits: the bundle of its champion, version 1, is not in .*store; name the store"
    with lease("digits", backends) as held, pytest.raises(BundleError, match=lost):
        stages.train(a_run, held, backends)
    said = capfd.readouterr().err
    assert SEEN in said
    assert "bundle" in said
    backends.versions.drop_alias("digits", "champion")
    assert existing.rival_of(a_run, backends) is None  # a person took it away, and nothing is left to compare with


def test_runs_that_the_dead_left_are_ended_at_the_next_start(home: Path, a_run: Any, tmp_path: Path) -> None:
    backends = Backends(Settings(home=home))
    uri = backends.settings.mlflow_uri
    client = connect(uri)
    dead, other = (start_run(uri, experiment=name, name="n", tags={}, artifact_root=tmp_path) for name in ("digits", "faces"))
    for run_id in (dead, other):
        client.set_tag(run_id, PID, "999999999")
    existing.begin(a_run, backends)
    assert [client.get_run(run_id).info.status for run_id in (dead, other)] == ["KILLED", "RUNNING"]


@pytest.mark.slow
def test_production_goes_on_beside_a_foreign_champion(first: "First", tmp_path: Path, cli: "Command", trains_here: Any) -> None:
    """It is told before the training, whose proof is beside the ledger's champion; the promotion puts that back first."""
    road = first.road.beside(tmp_path / "road")
    shutil.copytree(first.road.home / "store", road.home / "store", dirs_exist_ok=True)
    shutil.copy(first.road.home / "mlflow.db", road.home / "mlflow.db")
    by_hand(road.home)
    one = road.backends().versions.get("digits", 1)
    path, ours = road.write(road.brief(seed=7)), {"GENWRIGHT_HOME": road.home, "GENWRIGHT_ACTOR": "tester"}
    with trains_here():
        said = cli("produce", path, **ours)
    assert said.code == 0, said.err
    assert SEEN in said.err
    every = [Produced.read(path) for path in (road.home / "store" / "runs" / "digits").glob("*/promote.json")]
    (produced,) = [each for each in every if each.release.version == 3]
    assert (produced.release.version, produced.promoted, produced.gates.champion) == (3, True, one.bundle_sha256)
    told = [(entry.action, entry.to_version) for entry in road.backends().registry.ledger.entries("digits")]
    assert told == [("promote", 1), ("restore", 1), ("promote", 3)]
    assert "version 1, the ledger's champion, has it back" in said.out.replace("\n", " ")
    unchanged = cli("retrain", path, **ours)
    assert (unchanged.code, unchanged.err) == (0, "")
