"""An installation to examine: backends of a home of its own, no server."""

from pathlib import Path

import pytest

from components.operations.finding import Installation
from components.pipeline.backends import Backends
from flows.settings import Settings


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(Backends(Settings(home=tmp_path / "home")), None, tmp_path)
