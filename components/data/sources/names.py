"""Names of files and members in any encoding: what they point to, and how they are shown and stored."""

import os
from pathlib import PurePosixPath

from components.core.errors import DataError


def shown(name: str) -> str:
    r"""The name as every screen, JSON, MLflow and page can hold it: bytes that are not UTF-8, and characters that move a cursor,
    are escaped.

    >>> shown("caf\udce9"), shown("café"), shown("two\nlines")
    ('caf\\xe9', 'café', 'two\\nlines')
    """
    try:
        whole = os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair of code units, which no byte stands for
        whole = name.encode("utf-8", "backslashreplace").decode()
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in whole)


def check_member(name: str, *, where: str) -> PurePosixPath:
    """The path of an archive's member. Raises DataError for one that would leave the archive.

    A backslash is a separator: tools of Windows write it, against the format.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise DataError(f"{where}: member '{shown(name)}' points outside the archive", do="do not use this archive; pack it anew")
    return path


def is_hidden(path: PurePosixPath) -> bool:
    """Files that systems leave behind: .DS_Store, ._x.png, __MACOSX."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def numbers_first(name: str) -> tuple[int, int, str]:
    """A sort key: whole numbers by value, before every other name."""
    return (0, int(name), name) if name.isascii() and name.isdigit() and len(name) < 10 else (1, 0, name)
