"""s3://bucket/prefix: Amazon's, or any server that speaks its protocol."""

import re
from urllib.parse import urlsplit

from components.core.errors import SettingsError
from components.core.stores import ObjectStore
from components.delivery.keys import KEY
from components.delivery.s3 import S3Store

FORM = "s3://bucket/prefix"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def opened(rest: str, *, uri: str, endpoint: str | None = None, region: str | None = None) -> ObjectStore:
    """The store in this bucket, at the http(s) address `endpoint` where it is not Amazon's."""
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if not BUCKET.fullmatch(bucket):
        raise SettingsError(f"{uri}: bucket {bucket!r}", allowed="3 to 63 lower-case letters, digits, '.' and '-'")
    if prefix and not (KEY.fullmatch(prefix) and len(prefix) < 300):
        raise SettingsError(f"{uri}: prefix {prefix!r}", allowed="letters, digits, '.', '_' and '-' in parts joined by '/'")
    if endpoint is not None and (urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname):
        raise SettingsError(f"S3 endpoint {endpoint!r}", allowed="an address such as http://127.0.0.1:8333")
    return S3Store(bucket, prefix, endpoint=endpoint, region=region)
