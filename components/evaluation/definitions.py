"""What metrics and gates say of themselves, read from their files in metrics/ and gates/: found by name, no list holds them.

    WORDS = (Words(...),)      what people read of what the file measures
    GATES = (Gate(...),)       the limits on it, where there are any

Both are literals, so that a brief is checked and a plan made without importing what measures (torch, scipy).
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple

from components.core.literals import assigned, body_of, read
from components.core.metrics import READINGS, Gate, Words

Package = Literal["metrics", "gates"]
PACKAGES: tuple[Package, ...] = ("metrics", "gates")
KINDS = {"Words": Words, "Gate": Gate}


class Defined(NamedTuple):
    """What one file defines."""

    module: str
    words: tuple[Words, ...]
    gates: tuple[Gate, ...]


@cache
def defined(package: Package) -> tuple[Defined, ...]:
    """The files of `metrics` or `gates`, by name. Raises TypeError for one whose words are no literals."""
    home = import_module(f"components.evaluation.{package}")
    found = []
    for module in sorted(pkgutil.iter_modules(home.__path__), key=lambda module: module.name):
        if not module.name.startswith("_"):
            folder = Path(module.module_finder.path)  # type: ignore[union-attr]
            path = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
            found.append(Defined(f"{home.__name__}.{module.name}", *_of(path)))
    return tuple(found)


def _of(path: Path) -> tuple[tuple[Words, ...], tuple[Gate, ...]]:
    body = body_of(path)
    parts = []
    for name in ("WORDS", "GATES"):
        node = assigned(body, name)
        parts.append(() if node is None else read(node, KINDS, what=f"what {name} holds", path=path))
    for name, part in zip(("WORDS", "GATES"), parts, strict=True):
        if not isinstance(part, tuple):
            raise TypeError(
                f"{path}: {name} must be a tuple: ({type(part).__name__}(...),), with a comma also after a single one"
            )
    words, gates = parts
    if not words:
        raise TypeError(f"{path}: defines no WORDS = (Words(...),): what people read of what it measures")
    return words, gates


@cache
def words() -> dict[str, Words]:
    """The words of every metric by its id, in the order in which they are shown."""
    found = [(word, file.module) for package in PACKAGES for file in defined(package) for word in file.words]
    _refuse_twice([(word.id, module) for word, module in found])
    return {word.id: word for word, _ in sorted(found, key=lambda each: (each[0].order, each[0].id))}


@cache
def gates() -> dict[str, Gate]:
    """Every gate by its name, in the order in which they are shown."""
    known = words()
    found = [(gate, module) for module, gate in _gates()]
    _refuse_twice([(gate.name, module) for gate, module in found])
    for gate, module in found:
        if gate.metric not in known:
            raise TypeError(f"{module}: its gate {gate.name} is on {gate.metric!r}, which no file defines")
    places = {gate.name: known[gate.metric].order if gate.order is None else gate.order for gate, _ in found}
    return {gate.name: gate for gate, _ in sorted(found, key=lambda each: (places[each[0].name], each[0].name))}


def maker_of(gate: Gate) -> str | None:
    """The module in gates/ that makes the value which a gate judges; None where a metric of the scorecard is judged as it is."""
    return next((file.module for file in defined("gates") if gate in file.gates), None)


def words_of(metric: str) -> Words:
    """The words of a metric; one that no file defines (of an older scorecard) is called by its id."""
    return words().get(metric) or READINGS.get(metric) or Words(metric, metric, "")


def forget() -> None:
    """Read the files again when they are next asked for."""
    for kept in (defined, words, gates):
        kept.cache_clear()


def _gates() -> list[tuple[str, Gate]]:
    return [(file.module, gate) for package in PACKAGES for file in defined(package) for gate in file.gates]


def _refuse_twice(found: list[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name, module in found:
        if name in seen:
            raise TypeError(f"{name} is defined twice: in {seen[name]} and in {module}")
        seen[name] = module
