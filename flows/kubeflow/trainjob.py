"""The training of a run as a TrainJob of Kubeflow Trainer v2: one pod a machine, which meet as torchrun's variables say.

https://www.kubeflow.org/docs/components/trainer has the API, trainer.kubeflow.org/v1alpha1. The runtime `torch-distributed` of a
cluster gives each pod PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT, which flows/settings.py reads. torchrun
itself is not run: components/training/supervise.py starts the processes of a machine, has them save on SIGTERM, and says in a
line why one ended.
"""

from pathlib import Path
from typing import Any

import yaml

from components.core.errors import InputError
from components.pipeline.needs import device_of, gpus_of
from components.pipeline.order import STAGES
from components.pipeline.run import Run
from flows.kubeflow.cluster import SECRETS, SETTINGS, Cluster

RUNTIME = "torch-distributed"
CONTAINER = "node"  # of that runtime, and the job that has it
GRACE_S = 60  # from SIGTERM to SIGKILL: a training saves within seconds
NAME_MAX = 24  # characters of the model's name in that of a job

Document = dict[str, Any]


def trainjob_of(run: Run, cluster: Cluster, *, nodes: int) -> Document:
    """The TrainJob of a run that stands in the store. Raises InputError where its processes cannot be shared by so many nodes."""
    workers = run.brief.compute.workers
    if nodes < 1 or workers % nodes:
        raise InputError(f"--nodes {nodes}: compute.workers is {workers}", allowed=f"what {workers} is a multiple of")
    train = next(stage for stage in STAGES if stage.device == "training")
    gpus = gpus_of(train, device_of(train, run), workers // nodes)
    trainer: Document = {
        "image": cluster.image,
        "command": ["genwright", "stage", train.name, "--run", run.reference],
        "numNodes": nodes,
        "env": [*_references("configMapKeyRef", cluster.config, SETTINGS), *_references("secretKeyRef", cluster.secret, SECRETS)],
    }
    if gpus:
        amount = {cluster.accelerator: str(gpus)}
        trainer["resourcesPerNode"] = {"requests": amount, "limits": amount}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name_of(run), "labels": {"app.kubernetes.io/name": "genwright"}},
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": RUNTIME},
            "trainer": trainer,
            "runtimePatches": [_patch(cluster, on_gpus=gpus > 0)],
        },
    }


def write(document: Document, path: Path) -> None:
    """As the YAML that kubectl takes."""
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def name_of(run: Run) -> str:
    """A DNS label that begins with a letter, with room for what is added to the names of its pods."""
    model, _, key = run.reference.partition("/")
    return f"train-{model.replace('_', '-')[:NAME_MAX].rstrip('-')}-{key[:8]}"


def _references(kind: str, name: str, keys: tuple[str, ...]) -> list[Document]:
    """Variables by reference: no value of a secret stands in a job."""
    return [{"name": key, "valueFrom": {kind: {"name": name, "key": key, "optional": True}}} for key in keys]


def _patch(cluster: Cluster, *, on_gpus: bool) -> Document:
    """What of its pods is this cluster's."""
    pod: Document = {"terminationGracePeriodSeconds": GRACE_S}
    if on_gpus:
        memory = {"medium": "Memory", "sizeLimit": cluster.shared_memory}
        pod["volumes"] = [{"name": "shared-memory", "emptyDir": memory}]
        mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108
        pod["containers"] = [{"name": CONTAINER, "volumeMounts": mounts}]
        pod["nodeSelector"] = dict(cluster.node_selector)
        pod["tolerations"] = [{"key": key, "operator": "Exists"} for key in cluster.tolerations]
    pod = {name: value for name, value in pod.items() if value}
    job = {"name": CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": "genwright.dev/trainjob",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
    }
