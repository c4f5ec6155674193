"""The object store: whether it may be read and written, and whether it honours conditional writes."""

import secrets
from collections.abc import Iterator

from components.core import store_keys
from components.core.errors import Conflict, StorageError
from components.core.stores import ObjectStore
from components.operations.finding import Finding, Installation, fail, ok

OTHER = "take a store that does: Amazon's S3, SeaweedFS, MinIO, or a folder; releases are not safe on this one"


def check(installation: Installation) -> Iterator[Finding]:
    """A small object is written, read, listed, and removed again."""
    store = installation.backends.store
    try:
        wrong = probe(store)
    except StorageError as error:
        yield fail(str(error), "correct GENWRIGHT_STORE, GENWRIGHT_S3_ENDPOINT or the credentials (AWS_*)")
        return
    if wrong:
        yield fail(f"{store.uri}: {wrong}", OTHER)
    else:
        yield ok(f"{store.uri}: may be read, written and removed, and conditional writes are honoured")


def probe(store: ObjectStore) -> str:
    """What is wrong with it; empty where nothing is. Raises StorageError where it refuses."""
    key = store_keys.probe(secrets.token_hex(8))
    try:
        if not store.put_if_absent(key, b"1"):
            return "says that an object is there which is not"
        if store.put_if_absent(key, b"2"):
            return "does not honour If-None-Match: it wrote what was there already"
        return _probe_there(store, key)
    finally:
        store.delete(key)


def _probe_there(store: ObjectStore, key: str) -> str:
    found = store.get(key)
    if found is None or found[0] != b"1":
        return "does not give back what was written"
    tag = store.swap(key, b"3", expected=found[1])
    try:
        store.swap(key, b"4", expected=found[1])
    except Conflict:
        listed = store.list(key) == [key]
        return "" if listed and tag != found[1] else "does not list what was written"
    return "does not honour If-Match: it wrote over what had changed"
