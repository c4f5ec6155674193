"""A tag that people set on a version in MLflow before it may be promoted, as `approved`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from components.core.errors import SettingsError

NAME = re.compile(r"[\w.\-/: ]{1,250}")  # what MLflow allows in a tag's name
OFF = ("false", "no", "off", "0")  # values by which a person says no
OURS = (
    "bundle_sha256",
    "bundle_uri",
    "model_id",
    "verdict",
    "family",
    "variant",
    "teacher",
    "base",
)  # what genwright sets itself
ALLOWED = "NAME or NAME=VALUE of a tag that people set, as approved"


@dataclass(frozen=True)
class RequiredTag:
    """The tag `name`, with this value or (None) with any but false, no, off and 0."""

    name: str
    value: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """NAME or NAME=VALUE. Raises SettingsError."""
        name, given, value = (part.strip() for part in text.partition("="))
        if not NAME.fullmatch(name) or name in OURS or name.startswith(("prefect.", "mlflow.")):
            raise SettingsError(f"GENWRIGHT_REQUIRED_TAG: {text!r}", allowed=ALLOWED)
        return cls(name, value if given else None)

    @property
    def text(self) -> str:
        """As people read and write it."""
        return self.name if self.value is None else f"{self.name}={self.value}"

    def is_on(self, tags: Mapping[str, str]) -> bool:
        """Whether these tags of a version have it."""
        found = tags.get(self.name)
        if found is None:
            return False
        return found.strip().lower() not in OFF if self.value is None else found.strip() == self.value
