"""The whole road on real digits: what a production leaves, what makes it train again, and what the gates and people may do."""

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.core.bundles import read_bundle
from components.core.errors import GateRefused
from components.core.files import sha256_of
from components.core.records import Scorecard
from components.families import find
from components.pipeline import existing, proof, release_commands
from components.pipeline import run as runs
from components.pipeline.resolve import resolve
from components.pipeline.run import Exported, Produced, Proof, Run, Trained, record_key
from components.registry.mlflow_store import connect

BAD = ("Traceback", "Warning", "WARNING", "Error", "ERROR", "defect")
IMPOSSIBLE = {"coverage_min": 1.0, "recall_min": 1.0}


def test_a_production_says_what_it_did_and_nothing_else(first: Any) -> None:
    said = first.ran.stdout + first.ran.stderr
    assert not [word for word in BAD if word in said], said
    for part in ("vae/gaussian", "Data", "Training", "Export", "Scorecard", "Gates", "promoted", "Bundle", "genwright serve"):
        assert part in first.ran.stdout, part
    assert Path.cwd().joinpath("mlruns").exists() is False
    assert sorted(path.name for path in first.road.folder.iterdir()) == ["brief.yaml", "data", "empty.db", "home"]


def test_every_stage_leaves_its_record_and_they_name_each_other(first: Any) -> None:
    run, trained = first.record("run", Run), first.record("train", Trained)
    exported, proof, produced = first.record("export", Exported), first.record("prove", Proof), first.record("promote", Produced)
    assert produced.run_key == run.key("seal")
    assert produced.promoted
    assert trained.checkpoint.dataset_md5 == run.dataset.md5
    assert trained.checkpoint.run_id == trained.run_id == produced.release.run_id
    assert max(exported.parity.values()) < 1e-4
    assert set(exported.parity) == {1, 2, 7, 32}
    bundle = produced.bundle.bundle
    assert bundle.lineage.checkpoint_sha256 == trained.checkpoint.weights.sha256
    assert bundle.lineage.brief_sha256 == run.brief.digest()
    timed = {"latency_p95_ms", "throughput_per_s"}
    assert proof.scorecard.metrics.keys() - bundle.scorecard.metrics.keys() == timed
    assert bundle.scorecard.metrics == {name: each for name, each in proof.scorecard.metrics.items() if name not in timed}
    assert bundle.gates == proof.gates
    assert bundle.latent
    assert bundle.admission is not None
    assert (bundle.admission.verdict, bundle.admission.checks[0].check) == ("pass", "parity")


def test_no_record_names_a_place_on_this_machine(first: Any) -> None:
    """Of a store that is a folder; tests/pipeline/test_machines.py asks the same of S3."""
    store, repo = first.left / "store", str(first.road.folder)  # which the brief names by its whole path
    records = [path for path in store.rglob("*.json") if not path.name.startswith(".")]
    assert {"run.json", "train.json", "export.json", "prove.json", "seal.json", "promote.json", "bundle.json"} <= {
        path.name for path in records
    }
    for path in records:
        words = set(re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text()))
        assert [word for word in words if word.startswith(("/", "file:")) or repo in word] == [], path


def test_memory_is_told_on_the_terminal_in_mlflow_and_on_the_page(first: Any) -> None:
    trained = first.record("train", Trained)
    memory = trained.checkpoint.memory
    assert memory is not None
    assert (memory.parts, memory.recomputing) == (1, False)
    assert 0 < memory.needed_gb < memory.free_gb
    assert memory.peak_gb > 0.1
    assert f"memory: {memory.text}" in first.ran.stdout
    page = first.road.backends().workspace.open(first.record("promote", Produced).page).read_text()
    assert f"<dt>memory in training</dt><dd>{memory.text}</dd>" in page
    metrics = connect(first.road.backends().settings.mlflow_uri).get_run(trained.run_id).data.metrics
    assert metrics["train/memory_needed_gb"] == pytest.approx(memory.needed_gb)
    assert metrics["train/memory_peak_gb"] == pytest.approx(memory.peak_gb, rel=0.1)


def test_data_may_be_named_by_its_whole_path(first: Any) -> None:
    """The run, which is what other machines are given, has its way from the repository."""
    road = first.road
    data = {"path": str(road.folder / "data" / "digits"), "repo": str(road.folder)}
    run = resolve(road.brief(data=data), road.backends())
    assert run.brief.data.path == "data/digits"
    assert '"/' not in run.model_dump_json()
    assert run.key("train") == resolve(road.brief(), road.backends()).key("train")


def test_nothing_is_written_twice(first: Any) -> None:
    """In the home that the production made itself: what is the same file has one inode. A copy of it knows no second names."""
    home, inodes = first.road.home, defaultdict(set)
    parts = ("store", "bundles", "artifacts", "extractors", "work", "mlartifacts")
    for path in (each for part in parts for each in home.glob(f"{part}/**/*") if each.is_file() and each.suffix != ".json"):
        drawn = path.match("mlartifacts/*/*/artifacts/samples/*.png")  # by the training: the last may be as the proof's
        if path.stat().st_size and not drawn:
            inodes[sha256_of(path)].add((path.stat().st_ino, path.name))
    assert {digest: found for digest, found in inodes.items() if len({inode for inode, _ in found}) > 1} == {}
    produced, trained = first.record("promote", Produced), first.record("train", Trained)
    for artifact in (*produced.bundle.bundle.files[:2], trained.checkpoint.weights, produced.page):
        (kept,) = home.glob(f"store/artifacts/{artifact.sha256}/*")
        assert kept.stat().st_nlink >= 2, artifact.name  # the bundle's, the training's, MLflow's
    assert release_commands.bundle_of(produced.release, first.road.backends())[0].is_relative_to(home / "store" / "bundles")


def test_what_was_scored_is_the_graph_in_the_bundle(first: Any) -> None:
    road = first.road
    produced = first.record("promote", Produced)
    folder, bundle = release_commands.bundle_of(road.backends().versions.resolve("digits"), road.backends())
    assert read_bundle(folder, sha256=produced.bundle.sha256) == bundle
    assert bundle.scorecard.subject == f"onnx:{sha256_of(folder / 'model.onnx')}"
    assert all(metric.low <= metric.high for metric in bundle.scorecard.metrics.values())


def test_the_mlflow_run_is_finished_and_holds_everything(first: Any) -> None:
    run_id = first.record("train", Trained).run_id
    client = connect(first.road.backends().settings.mlflow_uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    known = first.record("run", Run)
    params = run.data.params
    config = find("vae", "gaussian").Config
    assert {name.removeprefix("config.") for name in params if name.startswith("config.")} == set(config.model_fields)
    assert (params["config.width"], params["config.batch_size"]) == ("16", str(config().batch_size))  # given, and a default
    assert (params["family"], params["variant"], params["seed"], params["device"]) == ("vae", "gaussian", "0", "cpu")
    assert {name: value for name, value in params.items() if name.startswith("budget.")} == {
        "budget.items_seen": "4000", "budget.spend": "enough", "budget.threads": "1", "budget.workers": "1",
    }  # fmt: skip
    assert (params["genwright"], params["brief_sha256"]) == (known.genwright, known.brief.digest())
    inputs = {each.dataset.name: (each.tags[0].value, each.dataset) for each in run.inputs.dataset_inputs}
    assert {name: context for name, (context, _) in inputs.items()} == {
        "digits/train": "training", "digits/validation+test": "evaluation",
    }  # fmt: skip
    assert {data.digest for _, data in inputs.values()} == {known.dataset.md5}
    assert json.loads(inputs["digits/train"][1].profile)["items"] == known.dataset.splits["train"]
    where = {"repo": known.dataset.repo, "rev": known.dataset.rev, "path": "data/digits", "md5": known.dataset.md5}
    uri = f"{known.dataset.repo}@{known.dataset.rev}:data/digits"
    assert json.loads(inputs["digits/train"][1].source) == {"uri": uri} | where
    tags = run.data.tags
    assert run.info.run_name == f"vae/gaussian: scratch, data {known.dataset.md5[:8]}"
    assert (tags["model"], tags["family"], tags["dataset"], tags["mlflow.user"]) == ("digits", "vae/gaussian", "digits", "tester")
    assert "- " in tags["mlflow.note.content"]
    assert "mlflow.parentRunId" not in tags
    logged = set(run.data.metrics)
    assert {"train/fd", "train/lr", "proof/fd", "proof/coverage"} <= logged
    assert any(name.startswith("train/loss_") for name in logged)
    assert any(name.startswith("system/") for name in logged)
    assert "run.json" in {each.path for each in client.list_artifacts(run_id)}
    assert len(client.list_artifacts(run_id, "samples")) >= 2
    proof = {each.path for each in client.list_artifacts(run_id, "proof")}
    assert {"proof/page.html", "proof/samples.png", "proof/scorecard.json", "proof/gates.json"} <= proof


def test_the_release_is_one_model_that_mlflow_loads(first: Any) -> None:
    client = connect(first.road.backends().settings.mlflow_uri)
    run, produced = client.get_run(first.record("train", Trained).run_id), first.record("promote", Produced)
    version = client.get_model_version("digits", "1")
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (version.tags["model_id"], version.source) == (model.model_id, model.artifact_location)
    assert (str(model.status), model.params, model.tags["bundle_sha256"]) == ("READY", run.data.params, produced.bundle.sha256)
    card = first.record("prove", Proof).scorecard.metrics
    metrics = {each.key: (each.value, each.dataset_name, each.dataset_digest) for each in model.metrics}
    md5 = first.record("run", Run).dataset.md5
    assert metrics.pop("train/fd")[1:] == ("digits/train", md5)
    assert metrics == {f"proof/{name}": (metric.value, "digits/validation+test", md5) for name, metric in card.items()}
    assert {len(client.get_metric_history(run.info.run_id, key)) for key in metrics} == {1}


def test_the_first_version_is_champion_in_registry_ledger_and_channel(first: Any) -> None:
    backends = first.road.backends()
    (release,) = backends.versions.releases("digits")
    assert (release.version, release.aliases) == (1, ("champion",))
    (entry,) = backends.registry.ledger.entries("digits")
    assert (entry.action, entry.from_version, entry.to_version, entry.who) == ("promote", None, 1, "tester")
    channel, _ = backends.channels.read("digits") or (None, "")
    assert channel is not None
    assert (channel.version, channel.bundle_sha256, channel.sequence) == (1, release.bundle_sha256, 1)


@pytest.mark.parametrize("command", ["produce", pytest.param("retrain", marks=pytest.mark.slow)])
def test_unchanged_nothing_is_trained_and_it_says_why(first: Any, command: str) -> None:
    before = _trainings(first.road, "digits")
    ran = first.road.cli(command, "brief.yaml")
    assert ran.returncode == 0, ran.stderr
    assert "nothing to do: the brief, the data" in ran.stdout
    assert "digits version 1, which is champion" in ran.stdout
    assert [line for line in ran.stderr.splitlines() if not line.startswith("Starting: ")] == []  # said where it takes long
    assert _trainings(first.road, "digits") == before == 1


@dataclass(frozen=True)
class Grown:
    """A second road: version 1, then a changed seed (2), changed data whose gates refuse it (3), a changed package (4)."""

    road: Any
    made: dict[str, Produced]
    trainings: dict[str, int]


@pytest.fixture(scope="module")
def grown(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    from components.data.prepare import prepare
    from components.data.versions import track

    road = first.road.beside(tmp_path_factory.mktemp("grown") / "road")
    brief = road.brief(name="grown")
    impossible = road.brief(name="grown", gates={**brief.gates, **IMPOSSIBLE})
    made, trainings = {}, {}

    def note(name: str, produced: Produced) -> None:
        made[name], trainings[name] = produced, _trainings(road, "grown")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(proof.SAMPLES, "one_pass", 400)  # the numbers of a proof are not at stake here
        note("first", road.produce_here(brief))
        note("seed", road.produce_here(road.brief(name="grown", seed=1)))
        release_commands.rollback("grown", road.backends(), why="by the test")
        note("rolled back", road.produce_here(road.brief(name="grown", seed=1)))
        data = road.folder / "data" / "digits"
        prepare("uci-digits", data, seed=5, cache=road.home / "data")
        track(data)
        note("data", road.produce_here(impossible))
        patch.setattr("components.pipeline.resolve.package_version", lambda: f"{runs.package_version()}.post1")
        note("package", road.produce_here(impossible))
    return Grown(road, made, trainings)


def _trainings(road: Any, model: str) -> int:
    client = connect(road.backends().settings.mlflow_uri)
    return len(client.search_runs([client.get_experiment_by_name(model).experiment_id]))


@pytest.mark.slow
def test_a_changed_brief_data_or_package_trains_again(grown: Grown) -> None:
    assert grown.trainings == {"first": 1, "seed": 2, "rolled back": 2, "data": 3, "package": 4}
    assert {name: each.release.version for name, each in grown.made.items()} == {
        "first": 1, "seed": 2, "rolled back": 2, "data": 3, "package": 4,
    }  # fmt: skip


@pytest.mark.slow
def test_a_second_version_is_proved_beside_the_champion_and_takes_over(grown: Grown) -> None:
    one, two = grown.made["first"], grown.made["seed"]
    assert two.promoted
    assert two.gates.champion == one.bundle.sha256
    assert two.bundle.bundle.scorecard.metrics["distance_ratio"].n >= 400
    assert {"distance_ratio_max", "heldout_ratio_max"} <= {gate.gate for gate in two.gates.gates}
    assert two.bundle.bundle.scorecard.protocol.heldout == "genwright-classifier-v1-cross-fitted"
    beside = Scorecard.model_validate(_proof(grown, "seed").champion)
    assert beside.subject == one.bundle.bundle.scorecard.subject
    assert beside.protocol == two.bundle.bundle.scorecard.protocol


@pytest.mark.slow
def test_what_was_rolled_back_is_not_promoted_by_producing_again(grown: Grown) -> None:
    assert "champion" not in grown.made["rolled back"].release.aliases
    entries = grown.road.backends().registry.ledger.entries("grown")
    assert [(each.action, each.to_version) for each in entries[:3]] == [("promote", 1), ("promote", 2), ("rollback", 1)]
    run = _run(grown, "seed")
    assert "is not the champion" in existing.nothing_to_do(run, grown.made["rolled back"], grown.road.backends())


@pytest.mark.slow
def test_a_refused_version_stays_a_candidate_until_it_is_forced(grown: Grown) -> None:
    road = grown.road
    refused = grown.made["data"]
    assert not refused.promoted
    with pytest.raises(GateRefused, match=r"grown version 3 stays a candidate: .*coverage_min fail"):
        existing.refuse_unless_passed(refused)
    backends = road.backends()
    aliases = {alias: each.version for each in backends.versions.releases("grown") for alias in each.aliases}
    assert aliases == {"champion": 1, "candidate": 4}
    assert backends.channels.read("grown")[0].version == 1
    ran = road.cli("promote", "grown/3")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr.startswith("genwright: grown version 3: its gates say fail")
    assert len(ran.stderr.splitlines()) == 1
    assert road.cli("promote", "grown/3", "--force").returncode == 2
    assert backends.versions.resolve("grown").version == 1
    ran = road.cli("promote", "grown/3", "--force", "--why", "the test wants it")
    assert ran.returncode == 0, ran.stderr
    entry = backends.registry.ledger.last("grown")
    assert entry is not None
    assert (entry.to_version, entry.from_version, entry.why) == (3, 1, "the test wants it")
    assert entry.evidence["forced"] is True
    assert backends.channels.read("grown")[0].version == 3
    ran = road.cli("rollback", "grown")
    assert ran.returncode == 0, ran.stderr
    assert backends.versions.resolve("grown").version == 1


@pytest.mark.slow
def test_a_refused_production_exits_with_3_and_one_line(grown: Grown) -> None:
    brief = grown.road.brief(name="grown")
    impossible = grown.road.brief(name="grown", gates={**brief.gates, **IMPOSSIBLE})
    ran = grown.road.cli("produce", str(grown.road.write(impossible)))
    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert "nothing to do" in ran.stdout
    assert len(ran.stderr.splitlines()) == 1
    assert "stays a candidate" in ran.stderr


@pytest.mark.slow
def test_what_was_refused_beside_another_champion_is_proved_anew_without_training(grown: Grown) -> None:
    road = grown.road
    backends = road.backends()
    release_commands.promote("grown/2", backends, why="by the test", force=True)
    again = road.produce_here(_run(grown, "data").brief)
    assert again.gates.champion == grown.made["seed"].bundle.sha256
    assert again.release.version > 4
    assert again.release.run_id == grown.made["data"].release.run_id
    assert _trainings(road, "grown") == 4


def _run(grown: Grown, name: str) -> Run:
    run = grown.road.backends().workspace.read(f"runs/grown/{grown.made[name].run_key}/run.json", Run)
    assert run is not None
    return run


def _proof(grown: Grown, name: str) -> Proof:
    run, made = _run(grown, name), grown.made[name]
    proof = grown.road.backends().workspace.read(record_key(run, "prove", beside=made.gates.champion), Proof)
    assert proof is not None
    return proof
