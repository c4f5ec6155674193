"""A store of each kind, of the session's SeaweedFS and of a folder, and bundles to put into them."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import KEY_ID, SECRET, Weed

from components.core.bundles import seal_bundle
from components.core.files import sha256_of
from components.core.records import Bundle
from components.core.stores import ObjectStore
from components.delivery.store import open_store


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The credentials of the test's server, and nothing of the machine's own AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    values = {"ACCESS_KEY_ID": KEY_ID, "SECRET_ACCESS_KEY": SECRET, "EC2_METADATA_DISABLED": "true"}
    values |= {"CONFIG_FILE": str(tmp_path / "none"), "SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@dataclass(frozen=True)
class Place:
    """How any process can open the store under test."""

    uri: str
    endpoint: str | None

    def open(self) -> ObjectStore:
        return open_store(self.uri, s3_endpoint=self.endpoint)

    def spawn(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Run `code` in a process of its own, with the store as `store` and sys.argv[3:] as its arguments."""
        opening = "import sys\nfrom components.delivery.store import open_store\n"
        opening += "store = open_store(sys.argv[1], s3_endpoint=sys.argv[2] or None)\n"
        command = [sys.executable, "-c", opening + code, self.uri, self.endpoint or "", *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place(str(tmp_path / "store"), None)
    weed: Weed = request.getfixturevalue("weed")
    return Place(f"s3://{weed.bucket}/{secrets.token_hex(8)}/deep", weed.endpoint)


@pytest.fixture
def store(place: Place) -> ObjectStore:
    return place.open()


RECORD = {
    "model": "digits",
    "family": "vae",
    "variant": "residual",
    "spec": {"channels": 1, "height": 8, "width": 8},
    "noise": [{"name": "z", "shape": [16]}],
    "condition": None,
    "output": "x",
    "opset": 21,
    "max_batch": 16,
    "lineage": {
        "run_id": "r1",
        "brief_sha256": "0" * 64,
        "dataset_md5": "1" * 32,
        "dataset_rev": "HEAD",
        "checkpoint_sha256": "2" * 64,
        "genwright": "0.1.0",
        "decision": {
            "family": "vae",
            "variant": "residual",
            "mode": "scratch",
            "delivery": "one_pass",
            "reasons": [],
            "rejected": [],
            "warnings": [],
            "estimate": {
                name: {"value": 1.5, "unit": "s", "basis": "a test"}
                for name in ("training_s", "memory_gb", "cost_usd", "latency_ms")
            },
        },
    },
    "scorecard": {
        "subject": "onnx:" + "3" * 64,
        "device": "cpu",
        "metrics": {"fd": {"value": float("inf"), "low": 0.1, "high": float("inf"), "n": 10}},
        "protocol": {
            "extractor": "e",
            "extractor_sha256": "4" * 64,
            "dataset_md5": "1" * 32,
            "reference_split": "test",
            "reference_count": 10,
            "samples": 10,
            "resizer": "none",
            "seed": 0,
            "bootstrap": 10,
            "level": 0.95,
        },
    },
    "gates": {"verdict": "pass", "gates": [], "champion": None},
}


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Makes a sealed bundle folder with the given model bytes."""

    def make(model: bytes = b"a graph", name: str = "made") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model)
        (folder / "samples.png").write_bytes(b"a picture")
        files = [
            {"name": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size} for path in sorted(folder.iterdir())
        ]
        seal_bundle(folder, Bundle.model_validate(RECORD | {"files": files}))
        return folder

    return make
