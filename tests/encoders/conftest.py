"""Published text encoders, tiny ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_text import write_source

from components.core.records import Licence
from components.encoders.source import Source

LICENCE = Licence(name="apache-2.0", terms="free", said_by="README.md")


@pytest.fixture(scope="session")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Source]:
    """One of a kind."""

    def make(kind: str, **own: object) -> Source:
        folder = write_source(tmp_path_factory.mktemp("text") / f"tiny-{kind}", kind, **own)  # type: ignore[arg-type]
        return Source.of(folder, name=f"tiny-{kind}", licence=LICENCE)

    return make


@pytest.fixture
def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "made"
