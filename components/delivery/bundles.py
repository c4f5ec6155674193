"""Bundles in an object store, each in a folder of its digest. bundle.json is put last: while it is absent, so is the bundle."""

import shutil
import tempfile
from pathlib import Path

from components.core import store_keys
from components.core.bundles import BUNDLE_JSON, SHA256, address_of, parse_bundle, read_bundle
from components.core.errors import BundleError, StorageError, disk_error
from components.core.files import mark_used, write_whole
from components.core.records import Bundle, StoredBundle
from components.core.stores import ObjectStore
from components.delivery.final import put_final

SEAL_AGAIN = "remove it from the store, and run the stage that makes it again: genwright stage seal --run MODEL/KEY"

__all__ = ["bundle_uri", "fetch_bundle", "holds_bundle", "put_bundle", "read_bundle"]


def bundle_uri(store: ObjectStore, sha256: str) -> str:
    """Where a bundle is, for people and for MLflow; no record holds it, so that a store may be moved."""
    return f"{store.uri}/{store_keys.bundle(sha256)}"


def put_bundle(store: ObjectStore, folder: Path) -> StoredBundle:
    """Verify the bundle in `folder` and store it under its address. Killed half-way, running it again finishes the job.

    Nobody writes into its files after this: a folder store on the same disk keeps them by a second name. Raises BundleError when
    the folder is not what its bundle.json says, or the store holds other bytes under that address.
    """
    bundle = read_bundle(folder)
    record, sha256 = (folder / BUNDLE_JSON).read_bytes(), address_of(folder)
    for file in bundle.files:
        put_final(store, store_keys.bundle_file(sha256, file.name), folder / file.name, file)
    key = store_keys.bundle_file(sha256)
    if not store.put_if_absent(key, record):
        held = store.get(key)
        if held is None or held[0] != record:
            raise BundleError(
                f"{store.uri}/{key}: the store holds other bytes under this address", do="remove them and put again"
            )
    return StoredBundle(sha256=sha256, bundle=bundle)


def holds_bundle(store: ObjectStore, sha256: str) -> bool:
    """Whether the store has a bundle under this address: its record, which was put last, and every file that this names.

    Cheap: the files are verified by who fetches them. Raises StorageError.
    """
    if not SHA256.fullmatch(sha256):
        return False
    prefix = f"{store_keys.bundle(sha256)}/"
    record = store.get(store_keys.bundle_file(sha256))
    if record is None:
        return False
    try:
        bundle = parse_bundle(record[0], where=f"{store.uri}/{prefix}{BUNDLE_JSON}", sha256=sha256)
    except BundleError:
        return False
    return {prefix + file.name for file in bundle.files} <= set(store.list(prefix))


def fetch_bundle(store: ObjectStore, sha256: str, to: Path) -> Path:
    """The folder of a bundle on this machine, verified, to read: the store's own where the store is a folder, else a copy in the
    cache, `to`/<sha256>.

    A copy that is there and intact is used as it is; a damaged one is replaced. Raises BundleError, StorageError.
    """
    if not SHA256.fullmatch(sha256):
        raise BundleError(f"bundle {sha256[:80]!r}", allowed="64 hexadecimal digits")
    target = to / sha256
    if _intact(target, sha256):
        mark_used(target)
        return target
    if (own := store.path_of(store_keys.bundle_file(sha256))) is not None:
        _check_whole(store, sha256)
        read_bundle(own.parent, sha256=sha256, do=SEAL_AGAIN)
        return own.parent
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=to) as name:
            arriving = Path(name, sha256)
            arriving.mkdir()
            _download(store, sha256, arriving)
            read_bundle(arriving, sha256=sha256)
            _place(arriving, target, sha256=sha256, spare=Path(name, "replaced"))
    except OSError as error:
        raise disk_error(error, target) from error
    return target


def _check_whole(store: ObjectStore, sha256: str) -> None:
    """Raises StorageError where a file of it is not there, as it does where there is none to download."""
    for file in _record_of(store, sha256)[1].files:
        if store.path_of(key := store_keys.bundle_file(sha256, file.name)) is None:
            raise StorageError(f"{store.uri}/{key}: no such object")


def _record_of(store: ObjectStore, sha256: str) -> tuple[bytes, Bundle]:
    key = store_keys.bundle_file(sha256)
    record = store.get(key)
    if record is None:
        raise BundleError(f"{store.uri}/{store_keys.bundle(sha256)}/: no such bundle")
    return record[0], parse_bundle(record[0], where=f"{store.uri}/{key}", sha256=sha256, do=SEAL_AGAIN)


def _download(store: ObjectStore, sha256: str, to: Path) -> Bundle:
    record, bundle = _record_of(store, sha256)
    prefix = f"{store_keys.bundle(sha256)}/"
    known = {prefix + BUNDLE_JSON, *(prefix + file.name for file in bundle.files)}
    if extra := set(store.list(prefix)) - known:
        raise BundleError(f"{store.uri}/{min(extra)}: not a file of this bundle", do="remove it from the store")
    write_whole(to / BUNDLE_JSON, record)
    for file in bundle.files:
        store.fetch(prefix + file.name, to / file.name)
    return bundle


def _intact(folder: Path, sha256: str) -> bool:
    try:
        read_bundle(folder, sha256=sha256)
    except BundleError:
        return False
    return True


def _place(arriving: Path, target: Path, *, sha256: str, spare: Path) -> None:
    """Move the verified folder to its place. Another process may be doing the same: an intact copy there is as good."""
    for _ in range(3):
        try:
            arriving.rename(target)
        except OSError:
            if not target.exists() and not target.is_symlink():
                raise
        else:
            return
        if _intact(target, sha256):
            return
        if target.is_dir() and not target.is_symlink():
            target.rename(spare)
            shutil.rmtree(spare)
        else:
            target.unlink()
    raise BundleError(f"{target}: another process keeps replacing it", do="end that process and try again")
