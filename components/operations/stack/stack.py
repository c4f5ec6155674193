"""What the stack of a home is: its form, ports and places, and the variables by which commands find it."""

import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from components.core.files import write_whole
from components.core.home import Home
from components.core.record import Record
from components.runtime.identity import Identity

HOST = "127.0.0.1"
BUCKET = "genwright"
USER = "genwright"  # of PostgreSQL
OTHER_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
MARK, SERVICE = "GENWRIGHT_STACK", "GENWRIGHT_SERVICE"  # in the environment of all that `up` starts, and of what that starts


class Form(Record):
    """How a stack was last started. `mark` stands in the environment of its processes and nowhere else."""

    team: bool
    ports: dict[str, int]
    mark: str


class Started(Record):
    """A process of the stack."""

    identity: Identity
    command: tuple[str, ...]


@dataclass(frozen=True)
class Stack:
    """The stack of one home."""

    home: Home
    form: Form

    @property
    def folder(self) -> Path:
        return self.home.stack

    def log(self, name: str) -> Path:
        """What a service says."""
        return self.folder / "logs" / f"{name}.log"

    def note(self, name: str) -> Path:
        """Which process a service is."""
        return self.folder / "processes" / f"{name}.json"

    def data(self, name: str) -> Path:
        """What a service keeps."""
        return self.folder / name

    @property
    def exports_file(self) -> Path:
        return self.folder / "env"

    def port(self, name: str) -> int:
        return self.form.ports[name]

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self.port(name)}"

    @cached_property
    def exports(self) -> Mapping[str, str]:
        """The variables by which commands of a shell find this stack. Secrets are named by their file."""
        own = {
            "GENWRIGHT_HOME": str(self.home.root),
            "GENWRIGHT_TRACKING_URI": self.url("mlflow"),
            "PREFECT_API_URL": f"{self.url('prefect')}/api",
        }
        if not self.form.team:
            return own
        store = {"GENWRIGHT_STORE": f"s3://{BUCKET}/store", "GENWRIGHT_S3_ENDPOINT": self.url("s3")}
        return own | store | self.s3_exports

    @property
    def s3_exports(self) -> dict[str, str]:
        """Those by which every client of S3 finds its keys."""
        return {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def hides(self) -> tuple[str, ...]:
        """Variables that would come before those: other keys of S3."""
        return OTHER_KEYS if self.form.team else ()

    def write_exports(self) -> None:
        """For `source`."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.exports.items()]
        if self.hides:
            lines.append(f"unset {' '.join(self.hides)}")
        write_whole(self.exports_file, "\n".join([*lines, ""]).encode())

    @property
    def credentials(self) -> Path:
        """The keys of S3, as boto3 and every other client of it read them."""
        return self.folder / "secrets" / "aws-credentials"

    @cached_property
    def s3_keys(self) -> tuple[str, str]:
        """Id and secret, made once."""
        key, secret = self._secret("s3-key", 10), self._secret("s3-secret", 20)
        if not self.credentials.exists():
            text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
            write_whole(self.credentials, text.encode(), private=True)
        return key, secret

    @cached_property
    def password(self) -> str:
        """Of the database, made once."""
        return self._secret("postgres-password", 24)

    def _secret(self, name: str, size: int) -> str:
        path = self.folder / "secrets" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, secrets.token_hex(size).encode(), private=True)
        return path.read_text(encoding="ascii")

    def database(self, name: str, *, scheme: str = "postgresql") -> str:
        """The URI of a database of PostgreSQL, with its password."""
        return f"{scheme}://{USER}:{self.password}@{HOST}:{self.port('postgres')}/{name}"


def known_form(home: Home) -> Form | None:
    """How the stack of a home was last started; None where it never was."""
    path = home.stack / "stack.json"
    return Form.read(path) if path.exists() else None


def write_form(home: Home, form: Form) -> None:
    """Before anything of it is started. A home in a git repository is none of its files: there are secrets in it."""
    if not (ignored := home.root / ".gitignore").exists():
        write_whole(ignored, b"*\n")
    form.write(home.stack / "stack.json")


def new_mark() -> str:
    return secrets.token_hex(12)
