"""Where MLflow keeps the files of a run: where its server says, or, with a database alone, in a folder of one machine."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.core.addresses import without_password
from components.core.errors import RegistryError

BEFORE_A_DATABASE = (
    "give all machines one MLflow server: GENWRIGHT_TRACKING_URI=http://HOST:PORT, of `mlflow server` on that database"
)
ON_A_SERVER = "rename the brief: who made its experiment gave it that folder in place of the server's"


def check_reachable(root: str, tracking_uri: str, *, what: str) -> None:
    """Raises RegistryError where a database or a server names a folder that this machine does not have, or may not write to.

    MLflow would make it anew, and its files would lie there unseen. SQLite is a file of one machine.
    """
    folder = folder_of(root)
    if folder is None or tracking_uri.startswith("sqlite") or (folder.is_dir() and os.access(folder, os.W_OK)):
        return
    text = f"{without_password(tracking_uri)}: the files of {what} are in {folder}, a folder of another machine"
    raise RegistryError(text, do=ON_A_SERVER if tracking_uri.startswith("http") else BEFORE_A_DATABASE)


def folder_of(uri: str) -> Path | None:
    """The folder that a URI names; None for any other place."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path))
