"""Files that nobody changes any more: put into a store, and replaced where a folder store holds a damaged one."""

from pathlib import Path

from components.core.records import Artifact
from components.core.stores import ObjectStore


def put_final(store: ObjectStore, key: str, path: Path, file: Artifact) -> None:
    """Put the file at `path` under a key; a folder store on the same disk keeps it by a second name, and copies nothing.

    What a folder store has there already is replaced where it is not this file: S3 looks after its objects itself.
    Raises StorageError.
    """
    if store.put_if_absent(key, path, final=True):
        return
    own = store.path_of(key)
    if own is not None and not own.samefile(path) and not file.is_at(own):
        store.delete(key)
        store.put_if_absent(key, path, final=True)
