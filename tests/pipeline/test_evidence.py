"""The evidence table: in MLflow and in the store, exported, merged, and found again by the digest that a decision names."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core.errors import BriefError
from components.core.records import Case, EvidenceRow, EvidenceTable, Metric, ScoringProtocol
from components.pipeline import evidence
from components.pipeline.backends import Backends
from components.pipeline.resolve import decide, plan
from components.registry.tracking import start_run
from flows.settings import Settings

if TYPE_CHECKING:
    from roads import Command


def row(run_id: str, variant: str, fd: float) -> EvidenceRow:
    protocol = ScoringProtocol(
        extractor="e", extractor_sha256="e" * 64, dataset_md5="d", reference_split="test", reference_count=300, samples=500,
        resizer="none", seed=0, bootstrap=200, level=0.95,
    )  # fmt: skip
    case = Case(
        modality="image", conditioning="none", side=8, items=1797, tier="tiny", items_seen=120_000, seconds=120, latency_ms=50,
        device="cpu",
    )  # fmt: skip
    metrics = {"fd": Metric(value=fd, low=fd - 0.1, high=fd + 0.1, n=500, better="lower")}
    family, _, name = variant.partition("/")
    return EvidenceRow(
        family=family, variant=name, mode="scratch", delivery="one_pass", case=case, protocol=protocol, metrics=metrics,
        train_s=120.0, items_seen=120_000, genwright="0.1.0", model="digits", who="tester", run_id=run_id, kind="proof",
    )  # fmt: skip


@pytest.fixture
def backends(tmp_path: Path, empty_store: Path) -> Backends:
    (tmp_path / "home").mkdir()
    shutil.copy(empty_store, tmp_path / "home" / "mlflow.db")
    return Backends(Settings(home=tmp_path / "home", actor="tester"))


def brief(**more: Any) -> Any:
    from components.core.brief import Brief

    data = {"path": "digits", "items": 1797, "side": 8}
    compute = {"items_seen": 120_000, "device": "cpu"}
    known = {"name": "digits", "modality": "image", "data": data, "compute": compute, "serving": {"latency_ms": 50}}
    return Brief.model_validate(known | more)


def test_rows_are_collected_from_mlflow_once_and_exported(backends: Backends, tmp_path: Path, cli: "Command") -> None:
    uri = backends.settings.mlflow_uri
    made = [start_run(uri, experiment=f"x{k}", name="n", tags={}, artifact_root=tmp_path / "a") for k in range(3)]
    for run_id, variant in zip(made, ("vae/gaussian", "gan/dcgan", "flow/glow"), strict=True):
        evidence.leave_evidence(row(run_id, variant, 0.5), backends)
    assert len(evidence.table(backends).rows) == 3
    backends.store.delete("evidence/table.json")  # a store that is new, beside the same MLflow
    home = str(tmp_path / "home")
    listed = cli("evidence", GENWRIGHT_HOME=home)
    assert [name for name in ("vae/gaussian", "gan/dcgan", "flow/glow", made[0][:8]) if name not in listed.out] == []
    assert cli("evidence", "--json", tmp_path / "a.json", GENWRIGHT_HOME=home).out.endswith("3 rows, 0 of them new from MLflow\n")
    written = EvidenceTable.read(tmp_path / "a.json")
    assert {each.run_id for each in written.rows} == set(made)

    theirs = tmp_path / "b.json"
    written.with_rows([row("f" * 32, "gan/sngan", 0.4)]).write(theirs)
    first, second = (cli("evidence", "merge", theirs, tmp_path / "a.json", GENWRIGHT_HOME=home) for _ in range(2))
    assert first.out == "1 new rows of 2 files; 4 in all\n"
    assert second.out == "0 new rows of 2 files; 4 in all\n"
    (tmp_path / "c.json").write_text("{}x")
    cli("evidence", "merge", tmp_path / "c.json", GENWRIGHT_HOME=home).refused(2, "c.json", "genwright evidence --json FILE")
    cli("evidence", "merge", tmp_path / "none.json", GENWRIGHT_HOME=home).refused(2, "none.json", "no such")


def test_a_plan_ranks_by_the_table_and_by_the_rows_that_a_decision_named(backends: Backends, tmp_path: Path) -> None:
    facts, prior = plan(brief(), backends)
    assert prior.family == "vae"
    evidence.add([row("a" * 32, "vae/gaussian", 1.0), row("b" * 32, "gan/dcgan", 0.3)], backends)
    _, found = plan(brief(), backends)
    assert (found.family, found.variant) == ("gan", "dcgan")
    assert found.evidence is not None
    evidence.keep_used(found, evidence.table(backends), backends)
    evidence.add([row("c" * 32, "gan/dcgan", 3.0)], backends)  # the seeds of dcgan differ by more than it is better
    assert plan(brief(), backends)[1].family == "vae"
    pinned = plan(brief(evidence=found.evidence.sha256), backends)[1]
    assert (pinned.family, pinned.evidence.sha256) == ("gan", found.evidence.sha256)  # type: ignore[union-attr]
    assert plan(brief(evidence="none"), backends)[1].family == "vae"
    assert facts == plan(brief(), backends)[0]
    with pytest.raises(BriefError, match="no decision here looked at such rows"):
        plan(brief(evidence="0" * 64), backends)


def test_a_plan_makes_no_home_and_a_damaged_table_is_said(backends: Backends, tmp_path: Path, capfd: Any) -> None:
    nowhere = Backends(Settings(home=tmp_path / "nowhere"))
    assert evidence.known_evidence(brief(), nowhere) == EvidenceTable()
    assert not (tmp_path / "nowhere").exists()
    backends.store.put_if_absent("evidence/table.json", json.dumps({"rows": 3}).encode())
    assert decide(brief(), backends, dataset=None, evidence=evidence.known_evidence(brief(), backends))[1].family == "vae"
    assert "the tables alone decide" in capfd.readouterr().err
