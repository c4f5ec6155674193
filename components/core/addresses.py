"""Addresses as they may be shown and logged."""

import re

PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^/]*@")


def without_password(uri: str) -> str:
    """The address with *** in place of its password.

    >>> without_password("postgresql://me:secret@db/mlflow")
    'postgresql://me:***@db/mlflow'
    """
    return PASSWORD.sub(r"\1:***@", uri)
