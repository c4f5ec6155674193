"""What one part needs of another, so that siblings need not import each other. The flow passes the parts in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from components.core.arrays import Asked, Stored
from components.core.records import Channel, ItemSpec, Metric, Reading


class ItemSampler(Protocol):
    """Something that makes items from seeds: a torch sampler, or an ONNX session over an exported graph."""

    subject: str  # onnx:SHA256 or torch:SHA256

    def __call__(self, seeds: Sequence[int], asked: Asked | None = None) -> Stored:
        """One stored item a seed, [N, *stored_shape]; item k depends on seeds[k] and asked[k] alone."""
        ...


class ItemSplit(Protocol):
    """One split of a dataset, on disk: indexable without holding it in memory."""

    item: ItemSpec
    labels: npt.NDArray[np.int64] | None  # [N]

    def __len__(self) -> int: ...

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        """The stored items at `indices`, [len(indices), *stored_shape]."""
        ...


class QualitySignal(Protocol):
    """A cheap look at a batch of generated items during training."""

    def __call__(self, images: Stored) -> Reading: ...


class Resampling(Protocol):
    """Bootstrap intervals: components.evaluation.bootstrap.Bootstrap."""

    def counts(self, n: int, *, stream: str) -> npt.NDArray[np.uint16]:
        """counts_RN: how often each of n items was drawn in each resample."""
        ...

    def metric(
        self,
        value: float,
        draws_R: npt.NDArray[np.float64],
        *,
        n: int,
        better: Literal["lower", "higher", "neither"],
        least: float,
        most: float,
    ) -> Metric:
        """The value with the interval that its resamples give, within [least, most]."""
        ...

    def share(self, hits_N: npt.NDArray[np.bool_], *, stream: str, better: Literal["lower", "higher", "neither"]) -> Metric:
        """The share of items that are hit, with an interval that stays open where all or none are."""
        ...


class Tracker(Protocol):
    """One run of an experiment tracker. Safe to use from any process that knows the run's id."""

    run_id: str

    def params(self, values: Mapping[str, object]) -> None: ...

    def metrics(self, values: Mapping[str, float], *, step: int) -> None: ...

    def image(self, name: str, image: npt.NDArray[np.uint8], *, step: int) -> None:
        """Log one picture, uint8 [H, W, C]."""
        ...

    def artifact(self, path: Path, folder: str = "") -> None: ...


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
