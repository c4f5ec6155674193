"""Any machine: one production over three that share S3, a DVC remote and an MLflow server on PostgreSQL; see conftest.py.

One model goes the whole way: its training is killed on one machine and finished on another, each later stage runs on the next
one, sixteen processes on two of them retrain it at once, and the third does all that is done with releases.
"""

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from elsewhere import load_elsewhere
from servers import Weed, free_ports

from components.core.records import LedgerEntry
from components.core.stores import ObjectStore
from components.delivery.channel import ChannelStore
from components.delivery.store import open_store
from components.pipeline.order import STAGES
from components.pipeline.run import in_steps
from components.registry.ledger import Ledger
from components.registry.mlflow_store import connect
from components.registry.versions import Versions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

PROCESSES = 16
ITEMS = 16_000  # of brief.yaml


@pytest.fixture(scope="module")
def store(weed: Weed) -> Iterator[ObjectStore]:
    """The machines' store, for the test to look into."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in weed.environment.items():
            patch.setenv(name, value)
        yield open_store(f"s3://{weed.bucket}/team", s3_endpoint=weed.endpoint)


@dataclass(frozen=True)
class Production:
    """What the first production left: its name as MODEL/KEY, and the records of its training, resumed and never interrupted."""

    run: str
    resumed: Any
    whole: Any
    released: Any


@pytest.fixture(scope="module")
def produced(machines: list[Any], store: ObjectStore, empty_store: Path) -> Production:
    one, two, three = machines
    _kill_in_training(one, store)
    (key,) = [key.split("/")[2] for key in store.list("runs/digits/") if key.endswith("/run.json")]
    run = f"digits/{key}"
    early = three.cli("stage", "export", "--run", run)
    assert (early.returncode, "its stage train has not run yet; genwright stage train first" in early.stderr) == (2, True)
    alone = _alone(three, f"runs/{run}/run.json", store, empty_store)
    commands = [two.start("train", "--run", run, "--json"), three.start("train", "--run", run, "--json", **alone)]
    resumed, whole = [command.end().json() for command in commands]
    for stage, machine in zip(STAGES[1:], cycle((three, one, two))):
        released = machine.cli("stage", stage.name, "--run", run, "--json").json()
    return Production(run, resumed, whole, released)


def _kill_in_training(machine: Any, store: ObjectStore) -> None:
    """`produce`, killed in the midst of its training; the machine is lost with its home, once its worker has seen that."""
    command = machine.start("produce", "brief.yaml")
    process = psutil.Process(command.pid)
    best = "work/digits/train-*/train/best/checkpoint.json"
    until(lambda: [*machine.home.glob(best)] or not process.is_running(), lambda: command.said("err"))
    workers = process.children()
    assert workers, command.said("err")
    os.kill(command.pid, signal.SIGKILL)
    assert command.end().returncode == -signal.SIGKILL
    psutil.wait_procs(workers, timeout=60)
    assert [key for key in store.list("runs/digits/") if key.endswith("/state.safetensors")], command.said("err")
    shutil.rmtree(machine.home)
    machine.home.mkdir()


def _alone(machine: Any, run: str, store: ObjectStore, empty_store: Path) -> dict[str, str]:
    """What makes a command on this machine one that shares nothing but the run it is told of."""
    folder = machine.folder / "alone"
    found = store.get(run)
    assert found is not None
    (folder / "store" / run).parent.mkdir(parents=True)
    (folder / "store" / run).write_bytes(found[0])
    (folder / "home").mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    return {"GENWRIGHT_HOME": str(folder / "home"), "GENWRIGHT_STORE": str(folder / "store"), "GENWRIGHT_TRACKING_URI": tracking}


def until(true: Callable[[], object], said: Callable[[], str], *, limit_s: float = 300.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, said()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def retrained(produced: Production, machines: list[Any]) -> list[Any]:
    """Sixteen processes on two machines that retrain at once: how each ended."""
    started = [machines[at % 2].start("retrain", "again.yaml") for at in range(PROCESSES)]
    return [command.end() for command in started]


@pytest.fixture(scope="module")
def distilled(retrained: list[Any], machines: list[Any]) -> Any:
    """What the third machine has distilled from the champion."""
    request = ("--steps", "1", "--widths", "1", "--precisions", "fp32", "--minutes", "0.03", "--latency-ms", "5000")
    return machines[2].cli("distil", "digits", *request, "--json").json()


def test_no_machine_can_read_what_another_has(machines: list[Any]) -> None:
    if machines[0].group is None and os.getuid() == 0:
        pytest.skip("root reads everything here: setpriv cannot take its rights away")
    for machine in machines:
        assert "brief.yaml" in machine.names_in(machine.clone)
        for other in machine.others:
            assert machine.names_in(other.home) == "PermissionError"


def test_a_training_killed_on_one_is_finished_by_another_with_the_same_bits(produced: Production, store: ObjectStore) -> None:
    resumed, whole = produced.resumed, produced.whole
    assert resumed["run_id"] != whole["run_id"]
    assert resumed["checkpoint"]["items_seen"] >= ITEMS
    for what in ("weights", "step", "steps_total", "quality", "config"):
        assert resumed["checkpoint"][what] == whole["checkpoint"][what], what
    assert not [key for key in store.list(f"runs/{produced.run}/") if "/state/" in key]


def test_the_stages_of_a_production_run_on_one_machine_after_another(
    produced: Production, store: ObjectStore, team_mlflow: str, machines: list[Any], weed: Weed, tmp_path: Path
) -> None:
    assert (produced.released["release"]["version"], produced.released["promoted"]) == (1, True)
    client, run_id = connect(team_mlflow), produced.resumed["run_id"]
    assert client.get_run(run_id).info.status == "FINISHED"
    pictures = {each.path for each in client.list_artifacts(run_id)}
    assert {"run.json", "samples", "proof"} <= pictures
    in_s3 = open_store(f"s3://{weed.bucket}/mlflow", s3_endpoint=weed.endpoint).list("")
    assert [key for key in in_s3 if run_id in key and key.endswith("page.html")]
    version, sha256 = client.get_model_version("digits", "1"), produced.released["bundle"]["sha256"]
    assert version.tags["bundle_uri"] == f"{store.uri}/bundles/{sha256}"
    model = client.get_logged_model(version.tags["model_id"])
    assert (version.source, str(model.status), model.source_run_id) == (model.artifact_location, "READY", run_id)
    assert len([key for key in in_s3 if model.model_id in key and key.endswith("model.onnx")]) == 1
    told = load_elsewhere(team_mlflow, "models:/digits/1", tmp_path / "elsewhere")
    assert (told["metadata"]["bundle_sha256"], told["run_id"]) == (sha256, run_id)
    for machine in machines:  # what one made the others do not make again
        again = machine.cli("produce", "brief.yaml")
        assert (again.returncode, "nothing to do" in again.stdout) == (0, True), again.stderr


def test_sixteen_processes_on_two_machines_make_one_version(
    retrained: list[Any], store: ObjectStore, team_mlflow: str, produced: Production
) -> None:
    ended = Counter(each.returncode for each in retrained)
    assert set(ended) == {0, 1}, [each.stderr for each in retrained if each.returncode not in (0, 1)]
    lines = [each.stderr.splitlines()[-1] for each in retrained if each.returncode]
    assert [line for line in lines if not line.startswith("genwright: digits: another production of it")] == []
    assert [each.stderr for each in retrained if "Traceback" in each.stderr or "defect" in each.stderr] == []
    releases = Versions(team_mlflow).releases("digits")
    assert [(each.version, each.aliases) for each in releases] == [(1, ("previous",)), (2, ("champion",))]
    entries = [entry for entry in Ledger(store).entries("digits") if entry.sequence <= 2]
    assert [(entry.action, entry.to_version) for entry in entries] == [("promote", 1), ("promote", 2)]
    assert len([key for key in store.list("runs/digits/") if key.endswith("/train.json")]) == 2
    client = connect(team_mlflow)
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED"]


def test_a_third_machine_rolls_back_and_promotes(
    retrained: list[Any], machines: list[Any], store: ObjectStore, team_mlflow: str
) -> None:
    three = machines[2]
    for command, version in ((("rollback", "digits"), 1), (("promote", "digits/2"), 2)):
        assert three.cli(*command).returncode == 0
        champion = Versions(team_mlflow).by_alias("digits", "champion")
        channel = ChannelStore(store).read("digits")
        assert champion is not None
        assert channel is not None
        assert (champion.version, channel[0].version) == (version, version)
    history = [LedgerEntry.model_validate(entry) for entry in machines[0].cli("history", "digits", "--json").json()]
    told = [(entry.action, entry.to_version, entry.who) for entry in history[-2:]]
    assert told == [("rollback", 1, "three"), ("promote", 2, "three")]


def test_a_third_machine_distils(distilled: Any, team_mlflow: str) -> None:
    tried = distilled["curve"]["tried"]
    assert [(each["variant"], each["steps"], each["adversarial"]) for each in tried] == [
        ("latent-ect", 1, False), ("latent-ect", 1, True),
    ]  # fmt: skip
    student = tried[distilled["curve"]["chosen"]]
    taught = Versions(team_mlflow).resolve("digits@champion")
    assert distilled["curve"]["teacher"]["bundle_sha256"] == taught.bundle_sha256
    assert distilled["produced"]["bundle"]["bundle"]["lineage"]["teacher"] == taught.bundle_sha256
    versions, client = Versions(team_mlflow), connect(team_mlflow)
    own, teacher = versions.resolve("digits-distilled"), versions.get("digits", distilled["curve"]["teacher"]["version"])
    run = client.get_run(own.run_id)
    assert (own.version, run.data.tags["mlflow.parentRunId"]) == (1, teacher.run_id)
    assert [each.model_id for each in run.inputs.model_inputs] == [versions.model_id("digits", teacher.version)]
    taken = in_steps(1, adversarial=student["adversarial"])
    named = f"student of digits/{teacher.version}: latent-ect, {taken}, width {student['width']}"
    assert run.info.run_name == named
    described = client.get_model_version("digits-distilled", "1").description
    assert described == f"{named}, fp32; its gates say {student['verdict']}"
    proved = {each.key for each in client.get_logged_model(versions.model_id("digits-distilled", 1)).metrics}
    assert {"proof/fd", "proof/recall_lost"} <= proved  # by the names that every model's have


def test_another_machine_shows_all_the_students_that_were_tried(distilled: Any, machines: list[Any]) -> None:
    one = machines[0]
    told = one.cli("explain", "digits-distilled")
    assert "Students of digits version" in told.stdout, told.stderr
    (picture,) = [line.partition(": ")[2] for line in told.stdout.splitlines() if line.startswith("their picture: ")]
    assert Path(picture).is_relative_to(one.home / "artifacts")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_a_third_machine_walks_in_the_latent_space(retrained: list[Any], machines: list[Any]) -> None:
    three = machines[2]
    walked = three.cli("latent", "traverse", "digits", "--points", "3", "--units", "2", "--out", "walk.png")
    assert walked.returncode == 0, walked.stderr
    assert (three.clone / "walk.png").read_bytes().startswith(b"\x89PNG")


def test_a_third_machine_serves(retrained: list[Any], machines: list[Any], team_mlflow: str) -> None:
    three, (port,) = machines[2], free_ports(1)
    command = three.start("serve", "digits", "--port", str(port))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return client.get("/v2/health/ready").is_success
            return False

        until(answers, lambda: command.said("err"))
        reply = client.post("/v1/generate", json={"count": 1, "seed": 7})
    os.kill(command.pid, signal.SIGTERM)
    assert reply.content.startswith(b"\x89PNG")
    assert reply.headers["x-bundle-sha256"] == Versions(team_mlflow).resolve("digits").bundle_sha256
    assert command.end().returncode == 0


def test_no_record_names_a_place_on_a_machine(distilled: Any, machines: list[Any], store: ObjectStore) -> None:
    """All that the store holds in JSON: records of stages, bundles, extractors, ledgers, channels, leases."""
    keys = [key for key in store.list("") if key.endswith(".json")]
    assert {"runs", "bundles", "curves", "extractors", "ledger", "channels", "leases"} <= {key.split("/")[0] for key in keys}
    assert {"run.json", "tracked.json", *(f"{stage.name}.json" for stage in STAGES if stage.name != "register")} <= {
        key.rpartition("/")[2] for key in keys
    }
    named = {}
    for key in keys:
        found = store.get(key)
        assert found is not None
        named[key] = [word for word in words(json.loads(found[0])) if is_place(word, machines[0].folder.parent)]
    assert {key: places for key, places in named.items() if places} == {}


def words(document: Any) -> Iterator[str]:
    """Every string in a JSON document, keys too."""
    if isinstance(document, dict):
        document = [*document, *document.values()]
    if isinstance(document, list):
        for each in document:
            yield from words(each)
    elif isinstance(document, str):
        yield document


def is_place(word: str, base: Path) -> bool:
    """Whether it is, or holds, a path of one machine."""
    return word.startswith(("/", "file:", "~")) or str(base) in word or "127.0.0.1" in word
