"""Addresses as they may be shown and logged."""

import re

PASSWORD = re.compile(r"(?<=://)([^:/]*):[^/]*@")


def has_password(uri: str) -> bool:
    """Whether an address gives a password away.

    >>> has_password("https://me@corp:secret@example.org/data"), has_password("https://me@example.org:8080/data")
    (True, False)
    """
    return PASSWORD.search(uri) is not None


def without_password(uri: str) -> str:
    """The address with *** in place of its password.

    >>> without_password("postgresql://me:secret@db/mlflow")
    'postgresql://me:***@db/mlflow'
    """
    return PASSWORD.sub(r"\1:***@", uri)
