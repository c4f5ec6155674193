"""From what the user names to a source: every module beside this one that says what it opens is asked.

One that has a NAME opens the set of that name: `opened(Opening) -> Source`. One that has `claimed(path, Opening) -> Source |
None` is asked for a path, which one of them claims at most; its KIND says what that is.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from components.core.discovery import names
from components.core.errors import DataError
from components.data.sources.classes import CLASS_RULES
from components.data.sources.item import Opening, Source
from components.data.sources.names import shown

PACKAGE = "components.data.sources"


def find_source(source: str | Path, opening: Opening) -> Source:
    """The source that `source` names. Raises DataError when there is none."""
    if opening.classes not in CLASS_RULES:
        raise DataError(f"classes {opening.classes!r}", allowed=", ".join(CLASS_RULES))
    named = named_sources()
    if isinstance(source, str) and source in named:
        found: Source = named[source].opened(opening)
        return found
    where = shown(str(source))
    try:
        return _source_at(Path(source), opening)
    except FileNotFoundError:
        raise DataError(f"{where}: no such source, file or folder", allowed=allowed()) from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror or error}", do="give it read permission") from error


def named_sources() -> dict[str, ModuleType]:
    """The modules that open a set by its name."""
    return {module.NAME: module for module in _modules() if hasattr(module, "NAME")}


def allowed() -> str:
    """What there is, for a person."""
    kinds = ", ".join(module.KIND for module in _modules() if hasattr(module, "claimed"))
    return f"{', '.join(sorted(named_sources()))}, or the path of {kinds}"


def _source_at(path: Path, opening: Opening) -> Source:
    path.stat()
    for module in _modules():
        found: Source | None = module.claimed(path, opening) if hasattr(module, "claimed") else None
        if found is not None:
            return found
    raise DataError(f"{shown(str(path))}: not a kind of data that is known", allowed=allowed())


def _modules() -> list[ModuleType]:
    return [import_module(f"{PACKAGE}.{name}") for name in names(PACKAGE)]
