"""What a Kubernetes work pool makes of infra/prefect/kubernetes-gpu.json, by Prefect's own machinery and Kubernetes' models."""

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kubernetes import client
from prefect.workers.base import BaseJobConfiguration

from components.pipeline.placement import TEMPLATE, Pods

TEMPLATE_FILE = Path(__file__).parents[2] / TEMPLATE


class Job(BaseJobConfiguration):
    """What of a Kubernetes worker's configuration is the template's."""

    job_manifest: dict[str, Any]
    pod_watch_timeout_seconds: int


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TEMPLATE_FILE.read_text())
    return found


def rendered(template: dict[str, Any], **variables: Any) -> Job:
    jsonschema.validate(variables, template["variables"] | {"additionalProperties": False})
    return asyncio.run(Job.from_template_and_values(template, variables, client=object()))


def test_a_pod_has_the_gpus_the_memory_and_the_nodes_that_it_is_asked_for(template: dict[str, Any]) -> None:
    pods = Pods("reg/genwright:1", "32Gi", "8Gi", ("pool=gpu",), ("dedicated",))
    known = {"name": "g", "type": "kubernetes", "base_job_template": template}
    job = rendered(template, gpus=2, env={"A": "b"}, **pods.variables(known))
    pod = job.job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "reg/genwright:1"
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": 2}
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    (volume,) = pod["volumes"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
    assert container["command"] == ["/usr/bin/env"]  # not the image's own, which is the command line
    assert "prefect.engine" in container["args"]  # as the first process, to which a pod's SIGTERM goes


def test_its_settings_are_by_reference_and_a_pod_that_waits_for_a_node_is_no_crash(template: dict[str, Any]) -> None:
    job = rendered(template)
    (container,) = job.job_manifest["spec"]["template"]["spec"]["containers"]
    assert [next(iter(each)) for each in container["envFrom"]] == ["configMapRef", "secretRef"]
    assert {each["optional"] for source in container["envFrom"] for each in source.values()} == {True}
    assert job.pod_watch_timeout_seconds >= 86_400
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_it_is_a_job_of_kubernetes_without_an_unknown_field(template: dict[str, Any]) -> None:
    """But for two that Prefect's worker wants there, as its own template has them."""
    manifest = rendered(template, gpus=1, node_selector={"pool": "gpu"}, image="genwright").job_manifest
    for name in ("parallelism", "completions"):
        manifest["spec"]["template"]["spec"].pop(name)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["args"] = container["args"].split()
    container["env"] = []
    for amounts in container["resources"].values():  # as a server answers them
        amounts["nvidia.com/gpu"] = str(amounts["nvidia.com/gpu"])
    api = client.ApiClient()

    class Answer:
        data = json.dumps(manifest)

    read = api.sanitize_for_serialization(api.deserialize(Answer(), "V1Job"))
    assert read == _without_nothing(manifest)


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(each) for key, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list) else value
