"""A real SeaweedFS for the session, a store of each kind, and bundles to put into them."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.core.bundles import seal_bundle
from components.core.files import sha256_of
from components.core.protocols import ObjectStore
from components.core.records import Bundle
from components.delivery.store import open_store

PORTS = ("admin", "filer", "master", "s3", "volume")
KEY_ID, SECRET, BUCKET = "genwright-key", "genwright-secret", "genwright"


@dataclass(frozen=True)
class Weed:
    """A running SeaweedFS."""

    endpoint: str
    bucket: str = BUCKET


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def weed_command(folder: Path, ports: list[int]) -> list[str]:
    names = [f"{part}.port{kind}" for part in PORTS for kind in ("", ".grpc")]
    return [
        shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "weed",
        *("mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"),
        *("-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock", "-s3.autoCreateBucket=false"),
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    folder = tmp_path_factory.mktemp("weed")
    ports = free_ports(2 * len(PORTS))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(weed_command(folder, ports), env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        endpoint = f"http://127.0.0.1:{ports[2 * PORTS.index('s3')]}"
        wait_for_bucket(endpoint, process, folder / "log")
        yield Weed(endpoint)
    finally:
        process.kill()  # asked to, it takes more than five seconds; its folder is this run's alone
        process.wait()


def wait_for_bucket(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.session.Session(KEY_ID, SECRET, region_name="us-east-1").client(
        "s3", endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    )
    last: Exception | None = None
    for _ in range(600):
        try:
            client.head_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError) as error:
            last = error
        else:
            return
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
    pytest.fail(f"SeaweedFS did not start: {last}: {log.read_text(errors='replace')[-2000:]}")


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
