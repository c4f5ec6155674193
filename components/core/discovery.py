"""What is found by name: a file or a folder in a package is a member of it, and no list names it.

A member's module defines one object under a name that the package agrees on: `modality` in components/modalities/NAME.
"""

import importlib
import pkgutil
from functools import cache
from typing import Any


def names(package: str) -> tuple[str, ...]:
    """The members of a package, sorted; those that begin with an underscore are its own business."""
    paths = importlib.import_module(package).__path__
    return tuple(sorted(found.name for found in pkgutil.iter_modules(paths) if not found.name.startswith("_")))


@cache
def member(package: str, name: str, attribute: str) -> Any:
    """The object that a member defines under `attribute`. Raises KeyError for a name that no member has."""
    if name not in names(package):
        raise KeyError(name)
    return getattr(importlib.import_module(f"{package}.{name}"), attribute)
