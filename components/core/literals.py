"""Records that a source file writes as literals, read without running the file: what it says of itself costs no import.

card = Card(family="flow", steps=1)                        one record, in a class
WORDS = (Words("fd", "FD-local", "..."), Words("kid"))     several, in a module
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Kinds = Mapping[str, Callable[..., Any]]  # the name of a record's class in the source -> the class


def body_of(path: Path) -> list[ast.stmt]:
    """The statements of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8")).body


def assigned(body: Sequence[ast.stmt], name: str) -> ast.expr | None:
    """What is assigned to a name in a module or a class; None where nothing is."""
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if isinstance(targets[0], ast.Name) and targets[0].id == name:
                return statement.value
    return None


def read(node: ast.expr, kinds: Kinds, *, what: str, path: Path) -> Any:
    """The value of a literal of these records. Raises TypeError that names file and line for what would have to be run."""
    if isinstance(node, ast.Tuple):
        return tuple(read(each, kinds, what=what, path=path) for each in node.elts)
    try:
        if not isinstance(node, ast.Call):
            return ast.literal_eval(node)
        if not isinstance(node.func, ast.Name) or node.func.id not in kinds:
            raise ValueError(f"{ast.unparse(node.func)} is not one of {', '.join(kinds)}")
        given = [ast.literal_eval(each) for each in node.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    except ValueError as error:
        raise TypeError(
            f"{path}:{node.lineno}: {what} must be a literal, readable without running the file: no names, no sums"
        ) from error
    try:
        return kinds[node.func.id](*given, **named)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{path}:{node.lineno}: {what}: {' '.join(str(error).split())}") from error
