"""What parts need of the object store and of channels. Imports nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.core.records import Channel


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it."""

    key: str
    size_bytes: int
    modified_s: float  # Unix time by the store's clock: when it was put, or put again
    file: tuple[int, int] | None = None  # device and inode, where it is a file that other names may have, too
    names: int = 1  # how many names that file has


class ObjectStore(Protocol):
    """Bytes under keys such as 'bundles/ab12/model.onnx', in a folder or in S3. Errors are StorageError and Conflict."""

    uri: str  # without a trailing slash

    def put_if_absent(self, key: str, data: bytes | Path, *, final: bool = False) -> bool:
        """Store whole or not at all; False, and nothing changed, when the key is taken.

        `final`: nobody changes the file any more, so a store on the same disk may keep it by a second name. One that is there
        already counts as put now.
        """
        ...

    def path_of(self, key: str) -> Path | None:
        """Where the object is a file of this machine, to read; None where it is elsewhere or absent."""
        ...

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The bytes of a small object and its tag for `swap`; None when there is none."""
        ...

    def swap(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Compare-and-swap: write when the current tag is `expected` (None: absent) and return the new tag; else Conflict."""
        ...

    def fetch(self, key: str, to: Path) -> None:
        """Download a large object to a file, whole or not at all. Raises StorageError when there is none."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        ...

    def objects(self, prefix: str) -> Sequence[StoredObject]:
        """What `list` gives, with sizes and times."""
        ...

    def touch(self, key: str) -> None:
        """Let an object count as put now; nothing happens where there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object that nothing names any more; one that is not there is as good as removed."""
        ...

    def delete_if_older(self, key: str, before_s: float) -> bool:
        """Remove it unless it was put, or put again, at that Unix time or later; whether it is gone by this."""
        ...


class ChannelPort(Protocol):
    """Reads and moves the channel of a model."""

    def read(self, model: str) -> tuple[Channel, str] | None:
        """The channel and its tag for `swap`, or None."""
        ...

    def swap(self, channel: Channel, *, expected: str | None) -> str:
        """Move the channel when its tag still is `expected` (None: absent). Raises Conflict."""
        ...
