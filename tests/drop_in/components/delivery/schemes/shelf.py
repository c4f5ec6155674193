"""shelf:///a/folder: a folder store that is named by another word."""

from pathlib import Path

from components.delivery.local import LocalStore

FORM = "shelf:///a/folder"


def opened(rest, *, uri, endpoint=None, region=None):
    return LocalStore(Path(rest) / "shelf")
