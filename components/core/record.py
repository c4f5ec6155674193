"""The base of every record: frozen, strict about its keys, JSON on the wire, never a tensor inside."""

import hashlib
import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import RunError
from components.core.files import write_whole


class Record(BaseModel):
    """A frozen value with a canonical JSON form."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", protected_namespaces=())

    def canonical(self) -> bytes:
        """JSON with sorted keys and no spaces: the same value gives the same bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()

    def digest(self) -> str:
        """The SHA-256 of the canonical form, in hexadecimal."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the record as readable JSON, whole or not at all."""
        write_whole(path, self.model_dump_json(indent=2).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record. Raises RunError when the file is missing or is not one."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise RunError(f"{path}: no such {cls.__name__.lower()}") from None
        except ValidationError as error:
            raise RunError(f"{path}: not a {cls.__name__.lower()}: {first_complaint(error)}") from error


def first_complaint(error: ValidationError) -> str:
    """The first thing pydantic holds against the input, on one line: field, what was given, what is allowed."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = "" if first["type"] in ("missing", "value_error") or isinstance(given, dict) else f" (given: {shortened(given)})"
    return f"{where}: {message}{shown}"


def shortened(given: object, *, most: int = 200) -> str:
    """What was given as Python writes it, cut where it is long."""
    if isinstance(given, str | bytes | list | tuple):
        given = given[:most]  # before it is written out
    text = repr(given)
    return text if len(text) <= most else f"{text[:most]}..."
