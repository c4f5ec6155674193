"""What runs the stages, found by name: a file here is an engine (GENWRIGHT_ENGINE).

It defines `produced(run, brief, backends, *, show) -> Produced`, which takes a run down the stages of
components/pipeline/production.py.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.discovery import names
from components.core.errors import SettingsError
from flows import prefect_server

if TYPE_CHECKING:
    from components.pipeline.backends import Backends
    from components.pipeline.run import Produced, Run


def produced(name: str | None, run: "Run", brief: Path, backends: "Backends", *, show: bool) -> "Produced":
    """What became of a run under the engine of this name; None: Prefect where the environment names its server, else this
    process.

    `show`: tell a person at the terminal. Raises SettingsError for an engine that is not here.
    """
    name = name or ("prefect" if prefect_server.is_named() else "process")
    if name not in names(__name__):
        raise SettingsError(f"GENWRIGHT_ENGINE: {name}", allowed=", ".join(names(__name__)))
    found: Produced = import_module(f"{__name__}.{name}").produced(run, brief, backends, show=show)
    return found
