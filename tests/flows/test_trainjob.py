"""A training on several machines: the TrainJob that asks for it, and that it makes what one machine makes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from origins import origin_with
from servers import free_ports

from components.core.errors import InputError, SettingsError
from components.pipeline.run import Trained
from components.runtime.cpus import usable_cpus
from components.runtime.machines import ALONE, Machine
from flows.kubeflow.cluster import Cluster
from flows.kubeflow.trainjob import name_of, trainjob_of
from flows.settings import machine

if TYPE_CHECKING:
    from roads import Command

SCHEMA = json.loads((Path(__file__).parent / "data" / "trainjob.schema.json").read_text())
CLUSTER = Cluster(
    image="reg/genwright:1", config="settings", secret="keys", node_selector=(("pool", "gpu"),), tolerations=("nvidia.com/gpu",)
)


def on(run: Any, device: str, workers: int) -> Any:
    compute = run.brief.compute.model_copy(update={"device": device, "workers": workers})
    brief, facts = run.brief.model_copy(update={"compute": compute}), run.facts.model_copy(update={"device": device})
    return run.model_copy(update={"brief": brief, "facts": facts})


@pytest.mark.parametrize(("device", "gpus"), [("cuda", "4"), ("cpu", None)])
def test_a_trainjob_has_a_pod_a_machine_with_its_share_of_the_gpus(device: str, gpus: str | None, a_run: Any) -> None:
    run = on(a_run, device, 8)
    job = trainjob_of(run, CLUSTER, nodes=2)
    jsonschema.validate(job, SCHEMA)
    trainer, (patch,) = job["spec"]["trainer"], job["spec"]["runtimePatches"]
    assert trainer["command"] == ["genwright", "stage", "train", "--run", run.reference]
    assert (trainer["numNodes"], trainer["image"]) == (2, "reg/genwright:1")
    assert trainer.get("resourcesPerNode", {}).get("limits", {}).get("nvidia.com/gpu") == gpus
    named = {each["name"]: next(iter(each["valueFrom"].items())) for each in trainer["env"]}
    assert named["GENWRIGHT_STORE"] == ("configMapKeyRef", {"name": "settings", "key": "GENWRIGHT_STORE", "optional": True})
    assert named["AWS_SECRET_ACCESS_KEY"][0] == "secretKeyRef"
    assert not any("value" in each for each in trainer["env"])
    (job_patch,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job_patch["template"]["spec"]["template"]["spec"]
    assert ("nodeSelector" in pod, "tolerations" in pod, "volumes" in pod) == (gpus is not None,) * 3


def test_the_schema_would_refuse_a_field_that_a_trainjob_does_not_have(a_run: Any) -> None:
    job = trainjob_of(a_run, CLUSTER, nodes=1)
    job["spec"]["trainer"]["replicas"] = 2
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


@pytest.mark.parametrize("nodes", [0, 3, 16])
def test_processes_that_cannot_be_shared_are_refused(nodes: int, a_run: Any) -> None:
    with pytest.raises(InputError, match=f"--nodes {nodes}: compute.workers is 8; allowed: what 8 is a multiple of"):
        trainjob_of(on(a_run, "cuda", 8), CLUSTER, nodes=nodes)


def test_its_name_is_a_label_with_room_for_that_of_its_pods(a_run: Any) -> None:
    long = a_run.model_copy(update={"brief": a_run.brief.model_copy(update={"name": "9_" + "x" * 61})})
    assert name_of(long).startswith("train-9-xxx")
    assert len(name_of(long)) < 42


TOLD = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "train-0.job", "PET_MASTER_PORT": "29400"}


def test_a_machine_knows_by_torchruns_variables_which_one_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)
    assert machine() == ALONE
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    assert machine() == Machine(number=1, of=2, meeting="tcp://train-0.job:29400")
    monkeypatch.setenv("PET_NNODES", "1")
    assert machine() == ALONE


@pytest.mark.parametrize(
    "wrong", [{"PET_NODE_RANK": "2"}, {"PET_NODE_RANK": "-1"}, {"PET_MASTER_ADDR": ""}, {"PET_NNODES": "two"}]
)
def test_a_place_that_is_none_is_refused(wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (TOLD | wrong).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="PET_NNODES="):
        machine()


def test_only_the_training_is_shared(cli: "Command", home: Path) -> None:
    (key,) = [path.parent.name for path in (home / "store" / "runs" / "digits").glob("*/promote.json")]
    cli("stage", "export", "--run", f"digits/{key}", **TOLD).refused(2, "stage export on machine 2 of 2", "allowed: train")
    done = cli("stage", "train", "--run", f"digits/{key}", **TOLD)
    assert (done.code, done.out) == (0, f"digits/{key}: machine 2 of 2 took part in stage train\n"), done.err


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.skipif(usable_cpus() < 2, reason="two processes on one machine take two cores")
def test_two_machines_make_what_one_makes_and_go_on_from_a_save(first: Any, tmp_path: Path) -> None:
    """Two processes each time: on one machine, and on two with homes of their own that share a store; stopped once in between."""
    road = first.road.beside(tmp_path / "road")
    brief = road.brief(compute={"items_seen": 24_000, "device": "cpu", "threads": 1, "workers": 2})
    assert road.cli("produce", str(road.write(brief))).returncode == 0
    alone = _trained(road.home / "store")
    origin_with(road.folder / "data" / "digits", tmp_path)
    shared = brief.model_copy(update={"data": brief.data.model_copy(update={"repo": (tmp_path / "origin.git").as_uri()})})
    store = {"GENWRIGHT_STORE": str(tmp_path / "store")}
    path = road.write(shared, "shared.yaml")
    wrote = road.cli("kubeflow", "trainjob", str(path), "--nodes", "2", "--to", str(tmp_path / "job.yaml"), **store)
    assert wrote.returncode == 0, wrote.stderr
    trainer = yaml.safe_load((tmp_path / "job.yaml").read_text())["spec"]["trainer"]

    def pods() -> list["subprocess.Popen[bytes]"]:
        """What the cluster would start."""
        (port,) = free_ports(1)
        told = {"PET_NNODES": str(trainer["numNodes"]), "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
        started = []
        for number in range(trainer["numNodes"]):
            own = {"GENWRIGHT_HOME": str(tmp_path / f"home-{number}"), "PET_NODE_RANK": str(number)}
            command, log = [sys.executable, "-m", "flows", *trainer["command"][1:]], (tmp_path / f"pod-{number}.log").open("ab")
            started.append(
                subprocess.Popen(command, cwd=tmp_path, env=road.variables(**store, **told, **own), stdout=log, stderr=log)
            )
        return started

    def said() -> list[str]:
        return [(tmp_path / f"pod-{number}.log").read_text()[-3000:] for number in range(2)]

    stopped = pods()
    until = time.monotonic() + 300
    while not list((tmp_path / "home-0").glob("work/digits/train-*/train/best/checkpoint.json")):  # its first reading
        assert time.monotonic() < until, said()
        assert [pod.poll() for pod in stopped] == [None, None], said()
        time.sleep(0.1)
    for pod in stopped:
        pod.terminate()
    assert [pod.wait(60) for pod in stopped] == [130, 130], said()
    (saved,) = (tmp_path / "store").glob("runs/digits/*/state/saved.json")
    assert 0 < json.loads(saved.read_text())["step"] < alone.checkpoint.steps_total
    assert [pod.wait(600) for pod in pods()] == [0, 0], said()
    assert _trained(tmp_path / "store").checkpoint.weights == alone.checkpoint.weights
    assert not list((tmp_path / "home-1").glob("mlflow.db"))  # the first machine tracks


def _trained(store: Path) -> Trained:
    (path,) = store.glob("runs/digits/*/train.json")
    return Trained.read(path)
