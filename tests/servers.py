"""Real servers of the tests, each begun once by the session that asks for it: SeaweedFS, PostgreSQL, and MLflow on both."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PORTS = ("admin", "filer", "master", "s3", "volume")
KEY_ID, SECRET, BUCKET = "genwright-key", "genwright-secret", "genwright"
START_S = 120.0  # of a server on a busy machine


@contextmanager
def running(
    command: list[str],
    folder: Path,
    ready: Callable[[], bool],
    *,
    environment: dict[str, str],
    user: int | None = None,
    end: signal.Signals = signal.SIGKILL,
) -> Iterator[None]:
    """A server, and all that it starts, from the moment that it is `ready` to the end of the block."""
    log = folder / "log"
    with log.open("wb") as output:
        owner = {} if user is None else {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True, **owner
        )
    try:
        until = time.monotonic() + START_S
        while not ready():
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(timeout=20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: nothing but the server and its workers
            process.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass(frozen=True)
class Weed:
    """A running SeaweedFS."""

    endpoint: str
    bucket: str = BUCKET

    @property
    def environment(self) -> dict[str, str]:
        """What a client's process is told of it."""
        keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
        return keys | {"AWS_DEFAULT_REGION": "us-east-1"}


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
    """SeaweedFS with one bucket, which asks for keys. It is killed at the end: asked to, it takes more than five seconds."""
    folder, ports = tmp_path_factory.mktemp("weed"), free_ports(2 * len(PORTS))
    endpoint = f"http://127.0.0.1:{ports[2 * PORTS.index('s3')]}"
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **keys}
    with running(weed_command(folder, ports), folder, lambda: has_bucket(endpoint), environment=environment):
        yield Weed(endpoint)


def has_bucket(endpoint: str) -> bool:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.session.Session(KEY_ID, SECRET, region_name="us-east-1").client(
        "s3", endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    )
    try:
        client.head_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    return True


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL, which asks for a password."""

    port: int
    password: str

    def new_database(self) -> str:
        """The URI of an empty database."""
        import psycopg2

        name = f"tests_{secrets.token_hex(6)}"
        with closing(psycopg2.connect(self._uri("postgres"))) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name}")
        return self._uri(name)

    def answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self._uri("postgres")).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _uri(self, name: str) -> str:
        return f"postgresql://genwright:{self.password}@127.0.0.1:{self.port}/{name}"


def postgres_program(name: str) -> str | None:
    """Where Debian and others put PostgreSQL's programs: on the path, or each version in a folder of its own."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql, or brew install postgresql")
    user = _user_for_postgres()
    folder, (port,), password = Path(tempfile.mkdtemp(prefix="genwright-postgres-")), free_ports(1), secrets.token_hex(16)
    try:
        (folder / "password").write_text(password)
        if user is not None:
            for path in (folder, folder / "password"):
                os.chown(path, user, -1)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
        initialised = subprocess.run(
            [initdb, "-D", "data", "-U", "genwright", "--pwfile=password", "--auth=scram-sha-256", "--encoding=UTF8", "-N"],
            env=environment, cwd=folder, capture_output=True, text=True, check=False, user=user,
        )  # fmt: skip
        assert initialised.returncode == 0, initialised.stdout + initialised.stderr
        command = [server, "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        made = Postgres(port, password)
        end = signal.SIGQUIT  # at once, but its shared memory is removed
        with running(command, folder, made.answers, environment=environment, user=user, end=end):
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user_for_postgres() -> int | None:
    """PostgreSQL refuses to run as root. None: as whoever runs the tests."""
    if os.getuid() != 0:
        return None
    known = {each.pw_name: each.pw_uid for each in pwd.getpwall()}
    return known.get("postgres", known.get("nobody"))


@contextmanager
def mlflow_server(folder: Path, database: str, files: str, **environment: str) -> Iterator[str]:
    """An MLflow server over a database, which keeps its files at a folder or an S3 address: its own address."""
    import httpx

    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--serve-artifacts"]
    command += ["--artifacts-destination", files, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{address}/health", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    with running(command, folder, ready, environment=dict(os.environ) | quiet | environment):
        yield address


@pytest.fixture(scope="session")
def team_mlflow(postgres: Postgres, weed: Weed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow as a team has it: over HTTP, on PostgreSQL, its files in S3."""
    s3 = weed.environment | {"MLFLOW_S3_ENDPOINT_URL": weed.endpoint}
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), postgres.new_database(), f"s3://{weed.bucket}/mlflow", **s3) as address:
        yield address


@contextmanager
def prefect_server(folder: Path, **environment: str) -> Iterator[str]:
    """A Prefect server with nothing on it, which keeps its files in a folder: the address of its API."""
    (port,) = free_ports(1)
    told = {"PREFECT_HOME": str(folder / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_"))}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]

    def ready() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5) as reply:
            return bool(reply.status == 200)
        return False

    folder.mkdir(exist_ok=True)
    with running(command, folder, ready, environment=kept | told | environment, end=signal.SIGTERM):
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one for all tests that ask for no more."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as api:
        yield api


def ask_prefect(api: str, method: str, path: str, **more: Any) -> Any:
    """The server's answer. It says 503, come again, while another has its SQLite locked, as Prefect's own client knows."""
    import httpx

    for _ in range(20):
        reply = httpx.request(method, f"{api}/{path}", timeout=60, **more)
        if reply.status_code != 503:
            break
        time.sleep(0.5)
    return reply.raise_for_status().json()


@contextmanager
def until_left(command: list[str], log: Path, *, cwd: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is asked to end when the block ends, as a service is, and killed a minute later."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
