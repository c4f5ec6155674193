"""What a Kubernetes work pool makes of infra/prefect/kubernetes-gpu.json, by Prefect's own machinery and Kubernetes' models."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kubernetes import client

from components.pipeline.placement import TEMPLATE, Pods

# In a process of its own: Prefect reads its settings once, when it is imported, and other tests have others.
RENDER = """
import asyncio, json, sys
from typing import Any
from prefect.workers.base import BaseJobConfiguration

class Job(BaseJobConfiguration):
    job_manifest: dict[str, Any]
    pod_watch_timeout_seconds: int

template, asked = json.load(sys.stdin)
made = [asyncio.run(Job.from_template_and_values(template, variables, client=object())) for variables in asked]
print(json.dumps([each.model_dump(mode="json") for each in made]))
"""
PODS = Pods("reg/genwright:1", "32Gi", "8Gi", ("pool=gpu",), ("dedicated",))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The configuration of a job that nothing was asked of, and of one that all was asked of."""
    template = json.loads((Path(__file__).parents[2] / TEMPLATE).read_text())
    pool = {"name": "gpu", "type": "kubernetes", "base_job_template": template}
    asked: list[dict[str, Any]] = [{}, {"gpus": 2, "env": {"A": "b"}, **PODS.variables(pool)}]
    for variables in asked:
        jsonschema.validate(variables, template["variables"] | {"additionalProperties": False})
    folder = tmp_path_factory.mktemp("template")
    ran = subprocess.run(
        [sys.executable, "-c", RENDER],
        input=json.dumps([template, asked]), env=os.environ | {"PREFECT_HOME": str(folder)}, cwd=folder,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def pod_of(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod and its container."""
    pod = job["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def test_a_pod_has_the_gpus_the_memory_and_the_nodes_that_it_is_asked_for(jobs: list[dict[str, Any]]) -> None:
    pod, container = pod_of(jobs[1])
    assert container["image"] == "reg/genwright:1"
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": 2}
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    (volume,) = pod["volumes"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
    assert container["command"] == ["/usr/bin/env"]  # not the image's own, which is the command line
    assert "prefect.engine" in container["args"]  # as the first process, to which a pod's SIGTERM goes


def test_its_settings_are_by_reference_and_a_pod_that_waits_for_a_node_is_no_crash(jobs: list[dict[str, Any]]) -> None:
    _, container = pod_of(jobs[0])
    assert [next(iter(each)) for each in container["envFrom"]] == ["configMapRef", "secretRef"]
    assert {each["optional"] for source in container["envFrom"] for each in source.values()} == {True}
    assert jobs[0]["pod_watch_timeout_seconds"] >= 86_400
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_it_is_a_job_of_kubernetes_without_an_unknown_field(jobs: list[dict[str, Any]]) -> None:
    """But for two that Prefect's worker wants there, as its own template has them."""
    manifest = json.loads(json.dumps(jobs[1]["job_manifest"]))
    pod, container = pod_of({"job_manifest": manifest})
    for name in ("parallelism", "completions"):
        pod.pop(name)
    container["args"] = container["args"].split()
    container["env"] = []
    for amounts in container["resources"].values():  # as a server answers them
        amounts["nvidia.com/gpu"] = str(amounts["nvidia.com/gpu"])

    class Answer:
        data = json.dumps(manifest)

    with client.ApiClient() as api:
        read = api.sanitize_for_serialization(api.deserialize(Answer(), "V1Job"))
    assert read == _without_nothing(manifest)


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(each) for key, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list) else value
