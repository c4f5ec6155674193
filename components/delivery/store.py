"""Opens the object store that a URI names."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.core.errors import SettingsError
from components.core.protocols import ObjectStore
from components.delivery.keys import KEY
from components.delivery.local import LocalStore
from components.delivery.s3 import S3Store

ALLOWED = "a folder, file:///a/folder or s3://bucket/prefix"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_store(uri: str, *, s3_endpoint: str | None = None, region: str | None = None) -> ObjectStore:
    """The store at `uri`; nothing is created or contacted yet.

    `s3_endpoint` is the http(s) address of an S3 server other than Amazon's. Raises SettingsError.
    """
    scheme, colon, rest = uri.partition("://")
    if not uri.strip():
        raise SettingsError("an empty store URI", allowed=ALLOWED)
    if not colon:
        try:
            return LocalStore(Path(uri).expanduser())
        except RuntimeError as error:
            raise SettingsError(f"{uri}: no such user, or none with a home", allowed=ALLOWED) from error
    if scheme == "file":
        if not rest.startswith("/"):
            raise SettingsError(f"{uri}: a file URI with a host", allowed="file:///absolute/folder")
        return LocalStore(Path(unquote(rest)))
    if scheme == "s3":
        return _open_s3(uri, rest, s3_endpoint=s3_endpoint, region=region)
    raise SettingsError(f"{uri}: not an object store", allowed=ALLOWED)


def _open_s3(uri: str, rest: str, *, s3_endpoint: str | None, region: str | None) -> S3Store:
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if not BUCKET.fullmatch(bucket):
        raise SettingsError(f"{uri}: bucket {bucket!r}", allowed="3 to 63 lower-case letters, digits, '.' and '-'")
    if prefix and not (KEY.fullmatch(prefix) and len(prefix) < 300):
        raise SettingsError(f"{uri}: prefix {prefix!r}", allowed="letters, digits, '.', '_' and '-' in parts joined by '/'")
    if s3_endpoint is not None and (urlsplit(s3_endpoint).scheme not in ("http", "https") or not urlsplit(s3_endpoint).hostname):
        raise SettingsError(f"S3 endpoint {s3_endpoint!r}", allowed="an address such as http://127.0.0.1:8333")
    return S3Store(bucket, prefix, endpoint=s3_endpoint, region=region)
