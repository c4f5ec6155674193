"""The evidence table: in MLflow and in the store, exported, merged, and found again by the digest that a decision names."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.core.errors import BriefError, InputError, SettingsError
from components.core.records import (
    Artifact,
    Case,
    Checkpoint,
    DataSpec,
    EvidenceRow,
    EvidenceTable,
    Machine,
    Metric,
    Scorecard,
    ScoringProtocol,
)
from components.evaluation.definitions import defined, words
from components.pipeline import evidence
from components.pipeline.backends import Backends
from components.pipeline.resolve import decide, plan
from components.registry.evidence import TAG
from components.registry.mlflow_store import connect
from components.registry.tracking import start_run
from components.runtime.hardware import machine
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
    cli("evidence", "merge", tmp_path / "none.json", GENWRIGHT_HOME=home).refused(2, "none.json: cannot be read: No such file")


@pytest.mark.parametrize("text", ["{}x", "{}", "[]", '{"a": 1}', '{"rows": 3}', '{"rows": [3]}', "\xff"])
def test_a_file_that_is_no_table_is_refused_in_one_clear_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError) as refused:
        evidence.read_file(path)
    assert str(refused.value) == f"{path}: holds no table of evidence; allowed: {evidence.WRITTEN}"


def test_rows_of_another_version_are_told_and_the_others_taken(backends: Backends, tmp_path: Path, capfd: Any) -> None:
    path, known = tmp_path / "theirs.json", row("a" * 32, "vae/gaussian", 1.0).model_dump(mode="json")
    path.write_text(json.dumps({"rows": [known, {**known, "run_id": "b", "mood": "good"}, {"run_id": "c"}]}))
    assert evidence.merge([path], backends) == 1
    told = capfd.readouterr().err
    assert told == f"genwright: {path}: 2 rows are of another version of genwright, and left out\n"
    run_id = start_run(backends.settings.mlflow_uri, experiment="x", name="n", tags={}, artifact_root=tmp_path / "a")
    client = connect(backends.settings.mlflow_uri)
    for name, text in ((TAG, "yes"), (f"{TAG}.proof-500", json.dumps({**known, "mood": "good"}))):
        client.set_tag(run_id, name, text)
    assert evidence.collect(backends) == 0
    assert capfd.readouterr().err == "genwright: MLflow: 1 row is of another version of genwright, and left out\n"


def test_the_table_and_mlflow_hold_the_same_rows(backends: Backends, tmp_path: Path) -> None:
    run_id = start_run(backends.settings.mlflow_uri, experiment="x", name="n", tags={}, artifact_root=tmp_path / "a")
    one = row(run_id, "vae/gaussian", 1.0).model_copy(update={"record": "runs/digits/1/prove.json", "measured_at": "2026-12-01"})
    beside_another = one.model_copy(update={"record": "runs/digits/2/prove.json"})
    again = one.model_copy(update={"measured_at": "2026-12-02", "train_s": 3.0})
    for each in (one, beside_another, again, one):  # the last one was measured earlier
        evidence.leave_evidence(each, backends)
    kept = evidence.table(backends)
    assert kept == EvidenceTable().with_rows([again, beside_another])
    backends.store.delete("evidence/table.json")
    assert evidence.collect(backends) == 2
    assert evidence.table(backends) == kept


def test_tables_of_two_teams_are_the_same_in_whatever_order_they_merge(backends: Backends, tmp_path: Path) -> None:
    mine, later = row("a" * 32, "vae/gaussian", 1.0), row("a" * 32, "vae/gaussian", 1.5)
    later = later.model_copy(update={"measured_at": "2026-12-02"})
    EvidenceTable(rows=(mine, row("b" * 32, "gan/dcgan", 0.5))).write(tmp_path / "mine.json")
    EvidenceTable(rows=(later,)).write(tmp_path / "theirs.json")
    files, exported = [tmp_path / "mine.json", tmp_path / "theirs.json"], []
    for k, order in enumerate((files, files[::-1])):
        own = Backends(Settings(home=tmp_path / str(k), actor="tester"))
        _ = own.settings.root
        evidence.merge(order, own)
        assert evidence.merge(order, own) == 0
        evidence.export(tmp_path / "new" / f"{k}.json", own)  # a folder that is not there is made, as for other files
        exported.append((tmp_path / "new" / f"{k}.json").read_bytes())
    assert exported[0] == exported[1]
    assert later in EvidenceTable.model_validate_json(exported[0]).rows


def test_what_only_a_proof_sees_is_in_no_row_and_ranks_nothing(backends: Backends, a_run: Any, tmp_path: Path) -> None:
    names = [name for name, word in words().items() if word.proof_only]
    assert {"heldout_distance", "heldout_ratio", "fid", "fd_dinov2"} <= set(names)
    figure = Metric(value=1.0, low=0.9, high=1.1, n=500, better="lower")
    theirs = row("a" * 32, "vae/gaussian", 1.0)
    evidence.add([theirs.model_copy(update={"metrics": dict.fromkeys((*names, "fd"), figure)})], backends)
    assert set(evidence.table(backends).rows[0].metrics) == {"fd"}
    seen = Scorecard(subject="onnx:1", protocol=theirs.protocol, metrics=dict.fromkeys((*names, "fd"), figure), device="cpu")
    checkpoint = Checkpoint(
        weights=Artifact(name="w", sha256="e" * 64, size_bytes=1), family="vae", variant="gaussian", config={},
        spec=DataSpec.of(a_run.dataset), dataset_md5="d", run_id="r", step=1, steps_total=1, train_s=1.0, quality=1.0,
        stopped_by="items_seen", machine="Xeon, 2 threads",
    )  # fmt: skip
    made = evidence.row_of(a_run, checkpoint, seen, backends, kind="proof", record="runs/digits/1/prove.json")
    assert set(made.metrics) == {"fd"}
    assert made.machine == Machine(training="Xeon, 2 threads", drawing=machine("cpu"))
    for name, why in (
        ("heldout_distance", "only a proof sees it"),
        ("fid", "only a proof sees it"),
        ("fdd", "no metric has this"),
    ):
        tables = tmp_path / f"{name}.yaml"
        tables.write_text(f"goals: {{quality: {{measured: {name}}}}}\n")
        own = Backends(Settings(home=tmp_path / "home", actor="tester", policy=tables))
        with pytest.raises(SettingsError, match=rf"goals.quality.measured: {name}: {why}.*allowed: .*fd"):
            plan(brief(), own)


def test_what_a_metric_asks_of_the_features_of_a_proof_is_declared() -> None:
    of = {file.module: {word.proof_only for word in file.words} for file in defined("metrics")}
    looking = {name for name in of if ".unseen" in Path(str(find_spec(name).origin)).read_text()}  # type: ignore[union-attr]
    assert looking == {name for name, only in of.items() if True in only} != set()
    assert all(of[name] == {True} for name in looking)


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
