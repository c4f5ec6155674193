"""Imports that are kept small."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """While this lasts, packages that were not imported yet look as if they were not installed.

    For a library that imports whatever it finds installed, needed or not. What it found stays so for the process; afterwards the
    packages can be imported as ever.

    >>> with hidden("wave"):
    ...     import wave
    Traceback (most recent call last):
    ModuleNotFoundError: import of wave halted; None in sys.modules
    """
    unloaded = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(unloaded))  # type: ignore[arg-type]  # None is how Python marks what there is not
    try:
        yield
    finally:
        for name in unloaded:
            sys.modules.pop(name, None)
