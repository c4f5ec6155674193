"""Opens the object store that a URI names, by its scheme."""

from importlib import import_module
from pathlib import Path

from components.core.discovery import names
from components.core.errors import SettingsError
from components.core.stores import ObjectStore
from components.delivery.local import LocalStore

SCHEMES = "components.delivery.schemes"


def open_store(uri: str, *, s3_endpoint: str | None = None, region: str | None = None) -> ObjectStore:
    """The store at `uri`, a folder or SCHEME://...; nothing is created or contacted yet.

    `s3_endpoint` is the http(s) address of an S3 server other than Amazon's. Raises SettingsError.

    >>> open_store("s3://models/team").uri
    's3://models/team'
    """
    scheme, colon, rest = uri.partition("://")
    if not uri.strip():
        raise SettingsError("an empty store URI", allowed=allowed())
    if not colon:
        try:
            return LocalStore(Path(uri).expanduser())
        except RuntimeError as error:
            raise SettingsError(f"{uri}: no such user, or none with a home", allowed=allowed()) from error
    if scheme not in names(SCHEMES):
        raise SettingsError(f"{uri}: not an object store", allowed=allowed())
    store: ObjectStore = import_module(f"{SCHEMES}.{scheme}").opened(rest, uri=uri, endpoint=s3_endpoint, region=region)
    return store


def allowed() -> str:
    """What a URI may look like, for a person."""
    forms = [import_module(f"{SCHEMES}.{name}").FORM for name in names(SCHEMES)]
    return f"a folder, {', '.join(forms[:-1])} or {forms[-1]}"
