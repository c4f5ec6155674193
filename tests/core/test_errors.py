"""The error tree: what its docstring draws is what there is."""

import errno
import os
import re

import pytest

from components.core import errors
from components.core.errors import GenwrightError, SettingsError, StorageError, UnknownModel, disk_error


def defined() -> list[type[GenwrightError]]:
    return [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, GenwrightError)]


def drawn() -> dict[str, tuple[str | None, str]]:
    """name -> (its parent, the rest of the line), from the tree in the module's docstring."""
    tree: dict[str, tuple[str | None, str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if node := re.match(r"^([│├└─ ]*)([A-Z]\w+) {2,}(.+)$", line):
            depth = len(node[1]) // 4
            path[depth:] = [node[2]]
            tree[node[2]] = (path[depth - 1] if depth else None, node[3])
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {cls.__name__: cls.__mro__[1].__name__ if cls is not GenwrightError else None for cls in defined()}
    assert len(real) > 10
    assert {name: parent for name, (parent, _) in drawn().items()} == real


def test_exit_codes_are_the_documented_ones() -> None:
    for cls in defined():
        assert cls.exit_code in (1, 2, 3, 130), cls
        if code := re.search(r"exit code (\d+)", drawn()[cls.__name__][1]):
            assert cls.exit_code == int(code[1])
    assert {cls.exit_code for cls in defined()} == {1, 2, 3, 130}


@pytest.mark.parametrize("cls", defined(), ids=lambda cls: cls.__name__)
def test_a_message_is_one_line(cls: type[GenwrightError]) -> None:
    error = cls("what\n happened", allowed="a,\n\tb", do=" do\nthis ")
    assert str(error) == "what happened; allowed: a, b; do this"
    assert str(cls("alone")) == "alone"
    assert isinstance(error, GenwrightError)


def test_catching_input_errors_catches_all_with_code_2() -> None:
    for cls in defined():
        assert issubclass(cls, errors.InputError) == (cls.exit_code == 2)
    assert issubclass(UnknownModel, errors.InputError)


READ_ONLY = "/d/f: not writable; give it write permission or set GENWRIGHT_HOME to a folder that has it"


@pytest.mark.parametrize(
    ("number", "kind", "line"),
    [
        (errno.ENOSPC, StorageError, "/d/f: the disk is full; free some space and run the same command again"),
        (errno.EDQUOT, StorageError, "/d/f: the disk is full; free some space and run the same command again"),
        (
            errno.EACCES,
            SettingsError,
            READ_ONLY,
        ),
        (
            errno.EROFS,
            SettingsError,
            READ_ONLY,
        ),
        (errno.EIO, StorageError, "/d/f: Input/output error"),
    ],
)
def test_the_disk_speaks_in_our_words(number: int, kind: type[GenwrightError], line: str) -> None:
    error = disk_error(OSError(number, os.strerror(number)), "/d/f")
    assert type(error) is kind
    assert str(error) == line
