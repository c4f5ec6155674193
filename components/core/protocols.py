"""What one part needs of another, so that siblings need not import each other. The flow passes the parts in.

Those of stores, which commands need that load no numpy, are in stores.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from components.core.arrays import Asked, Stored
from components.core.records import ItemSpec, Metric, Reading


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


class CaptionedSplit(ItemSplit, Protocol):
    """A split whose items something is said of."""

    @property
    def captions(self) -> Sequence[tuple[str, ...]] | None:
        """Of each item at least one; None where the data has none."""
        ...

    def take_condition(self, indices: npt.NDArray[np.int64], *, epoch: int = 0) -> npt.NDArray[np.float32]:
        """The embedding of a caption of each of the items at `indices`, [len(indices), L, D]; in another epoch of another one."""
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
