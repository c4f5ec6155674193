"""file:///a/folder: a folder of this machine, or one that several mount."""

from pathlib import Path
from urllib.parse import unquote

from components.core.errors import SettingsError
from components.core.stores import ObjectStore
from components.delivery.local import LocalStore

FORM = "file:///a/folder"


def opened(rest: str, *, uri: str, endpoint: str | None = None, region: str | None = None) -> ObjectStore:
    """The store in this folder."""
    if not rest.startswith("/"):
        raise SettingsError(f"{uri}: a file URI with a host", allowed="file:///absolute/folder")
    return LocalStore(Path(unquote(rest)))
