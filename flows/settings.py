"""Settings come from GENWRIGHT_* variables; nothing else reads those, but for the tokens of a container's entry point."""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.core.errors import SettingsError
from components.core.home import DEFAULT, Home, login_name, writable
from components.core.record import first_complaint
from components.pipeline.backends import Backends
from components.registry.approval import RequiredTag
from components.runtime.machines import ALONE, Machine
from flows import prefect_server


class Settings(BaseSettings):
    """Where state lives and who acts. Each field is the variable GENWRIGHT_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="GENWRIGHT_", env_ignore_empty=True, frozen=True, extra="ignore")

    home: Path = Field(default=DEFAULT, description="runs, models, caches and the local store")
    store: str | None = Field(
        default=None, description="where bundles, ledgers and channels live: a folder or s3://bucket/prefix"
    )
    s3_endpoint: str | None = Field(default=None, description="URL of an S3-compatible server that is not Amazon's")
    tracking_uri: str | None = Field(default=None, description="MLflow: sqlite:///..., postgresql://... or http://...")
    engine: str | None = Field(default=None, description="what runs the stages: process, prefect, or a file of flows/engines")
    gpu_pool: str | None = Field(
        default=None,
        description="the Prefect work pool that trains, and computes what needs a GPU; else each stage runs where its flow does",
    )
    data_mirror: str | None = Field(default=None, description="a folder or URL laid out like the datasets' public mirrors")
    hub_mirror: str | None = Field(default=None, description="a cache of the hub, or a folder laid out as ORG/NAME, in its place")
    usd_per_gpu_hour: float = Field(default=2.0, gt=0, description="the price that turns GPU hours and dollars into each other")
    policy: Path | None = Field(default=None, description="a team's own policy tables, merged over the built-in ones")
    actor: str | None = Field(default=None, description="who is written into the ledger; the login name by default")
    notify_url: str | None = Field(
        default=None, description="the webhook that hears of failures and refusals: genwright automations"
    )
    hand_moves: Literal["follow", "proved", "undo"] = Field(
        default="follow",
        description="of an alias champion that a hand moved in MLflow: follow it, where its proof holds, or undo it",
    )
    required_tag: str | None = Field(
        default=None, description="a tag, NAME or NAME=VALUE, that people set on a version in MLflow before it may be promoted"
    )
    webhook_secret: str | None = Field(
        default=None, description="what MLflow signs its webhooks with: genwright watch --listen", min_length=16
    )
    servers: str | None = Field(
        default=None, description="addresses of servers, separated by commas, that are told at once of a new champion"
    )
    token: str | None = Field(default=None, description="what clients of `genwright serve` must send as a bearer token")
    token_sha256: str | None = Field(
        default=None, description="SHA-256 digests of further tokens, separated by commas: for those that are not to stand here"
    )
    debug: bool = Field(default=False, description="show tracebacks")

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises SettingsError with one line that names the variable."""
        try:
            found = cls()
        except ValidationError as error:
            field, _, complaint = first_complaint(error).partition(": ")
            raise SettingsError(f"GENWRIGHT_{field.upper()}: {complaint}") from error
        if found.required_tag:
            RequiredTag.parse(found.required_tag)
        if wrong := next((each for each in found.told if not each.startswith(("http://", "https://"))), None):
            raise SettingsError(f"GENWRIGHT_SERVERS: {wrong}", allowed="addresses as http://HOST:8000, separated by commas")
        return found

    @cached_property
    def root(self) -> Path:
        """GENWRIGHT_HOME as an absolute folder that can be written. Raises SettingsError or StorageError."""
        return writable(self.home)

    @property
    def store_uri(self) -> str:
        return self.store or str(Home(self.root).store)

    @property
    def mlflow_uri(self) -> str:
        return self.tracking_uri or f"sqlite:///{Home(self.root).mlflow_database}"

    @property
    def engine_name(self) -> str:
        """What runs the stages: Prefect where the environment names its server, unless another is asked for."""
        return self.engine or ("prefect" if prefect_server.is_named() else "process")

    @property
    def told(self) -> tuple[str, ...]:
        """The addresses of SERVERS."""
        return tuple(filter(None, map(str.strip, (self.servers or "").split(","))))

    @property
    def placed_on(self) -> str | None:
        """The pool of GPU_POOL, under the engine that knows pools."""
        return self.gpu_pool if self.engine_name == "prefect" else None

    @property
    def artifact_root(self) -> Path | None:
        """Where MLflow keeps files: a folder of the home; None for a server, which knows where it keeps them."""
        is_server = self.mlflow_uri.startswith(("http://", "https://"))
        return None if is_server else Home(self.root).mlflow_artifacts

    @property
    def who(self) -> str:
        return self.actor or login_name() or f"uid {os.getuid()}"


def load_backends() -> Backends:
    """Those that the environment names."""
    return Backends(Settings.load())


def machine() -> Machine:
    """Which one this is of several that train together, as torchrun's variables say, which Kubeflow Trainer gives each pod."""
    told = {name: os.environ.get(f"PET_{name}", "") for name in ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")}
    if told["NNODES"] in ("", "1"):
        return ALONE
    try:
        number, of, port = int(told["NODE_RANK"]), int(told["NNODES"]), int(told["MASTER_PORT"])
        if not (0 <= number < of and told["MASTER_ADDR"]):
            raise ValueError
    except ValueError:
        given = ", ".join(f"PET_{name}={value}" for name, value in told.items())
        raise SettingsError(given, allowed="numbers of machines from 0, and the address of the first") from None
    return Machine(number=number, of=of, meeting=f"tcp://{told['MASTER_ADDR']}:{port}")


def name_user() -> None:
    """Give a user without a name or a home, as in a container, one of each: DVC, Prefect and PyTorch ask for them."""
    if login_name() is None:
        os.environ["USER"] = f"uid-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        if not str(home := Settings.load().home).startswith("~"):
            os.environ["HOME"] = str(home.absolute())
