"""A KServe InferenceService that serves a model's champion: genwright's own server in a container, following the channel.

https://kserve.github.io/website/docs/reference/crd-api, serving.kserve.io/v1beta1
"""

from pathlib import Path

import yaml

from components.core.files import write_whole
from components.core.records import Bundle

PORT = 8080
GRACE_S = 75  # from SIGTERM: the notice and the drain of components/serving/limits.py, and some
EVERYWHERE = "0.0.0.0"  # noqa: S104 (in a pod of its own)
HOME = "/tmp/genwright"  # noqa: S108 (of a container of its own)


def write_kserve(bundle: Bundle, *, sha256: str, version: int, store: str, image: str, to: Path) -> list[Path]:
    """Write `to`/MODEL-inferenceservice.yaml; what was written."""
    path = to / f"{bundle.model}-inferenceservice.yaml"
    service = inference_service(bundle, sha256=sha256, version=version, store=store, image=image)
    write_whole(path, yaml.safe_dump(service, sort_keys=False).encode())
    return [path]


def inference_service(bundle: Bundle, *, sha256: str, version: int, store: str, image: str) -> dict[str, object]:
    """The object. `image` runs the command line of genwright (infra/Dockerfile).

    The store's keys come from the secret `genwright-store`, the clients' tokens from `genwright-token`.
    """
    name = bundle.model.lower().replace("_", "-").replace(".", "-")
    container = {
        "name": "kserve-container",
        "image": image,
        "args": ["serve", bundle.model, "--host", EVERYWHERE, "--port", str(PORT), "--log", "json"],
        "env": [{"name": "GENWRIGHT_STORE", "value": store}, {"name": "GENWRIGHT_HOME", "value": HOME}],
        "envFrom": [
            {"secretRef": {"name": "genwright-store", "optional": True}},
            {"secretRef": {"name": "genwright-token", "optional": True}},
        ],
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": PORT}, "periodSeconds": 2},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": PORT}, "periodSeconds": 10},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
        "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "genwright", "app.kubernetes.io/instance": name},
            "annotations": {
                "genwright/version": str(version),
                "genwright/bundle-sha256": sha256,
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(PORT),
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": {"predictor": {"minReplicas": 1, "terminationGracePeriodSeconds": GRACE_S, "containers": [container]}},
    }
