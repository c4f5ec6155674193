"""A training that nobody watches: a bench, a try, or a process that another one speaks for."""

from collections.abc import Mapping
from pathlib import Path

from components.core.arrays import Stored


class Untracked:
    """A core.protocols.Tracker that forgets."""

    run_id = "untracked"

    def params(self, values: Mapping[str, object]) -> None: ...

    def metrics(self, values: Mapping[str, float], *, step: int) -> None: ...

    def image(self, name: str, image: Stored, *, step: int) -> None: ...

    def artifact(self, path: Path, folder: str = "") -> None: ...
