"""Where the pods of Kubeflow run, and who gives them their settings. Without kfp."""

from dataclasses import dataclass, field

from components.core.errors import InputError

GPU = "nvidia.com/gpu"
SETTINGS = tuple(  # a ConfigMap's keys
    f"GENWRIGHT_{name}" for name in ("STORE", "S3_ENDPOINT", "TRACKING_URI", "DATA_MIRROR", "ACTOR", "USD_PER_GPU_HOUR")
)
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@dataclass(frozen=True)
class Cluster:
    """Where the pods of a pipeline run, and who gives them their settings."""

    image: str
    config: str  # a ConfigMap
    secret: str
    accelerator: str = GPU
    shared_memory: str = "2Gi"  # /dev/shm of a step on GPUs
    node_selector: tuple[tuple[str, str], ...] = field(default=())
    tolerations: tuple[str, ...] = field(default=())  # keys

    @classmethod
    def of(cls, image: str, config: str, secret: str, node_selector: list[str], tolerations: list[str]) -> "Cluster":
        """As a command line gives it. Raises InputError for a label without a value."""
        if wrong := next((each for each in node_selector if "=" not in each), None):
            raise InputError(f"--node-selector {wrong}", allowed="LABEL=VALUE")
        labels = tuple((label, value) for label, _, value in (each.partition("=") for each in node_selector))
        return cls(image=image, config=config, secret=secret, node_selector=labels, tolerations=tuple(tolerations))
