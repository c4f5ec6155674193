"""Features that only a proof sees: no training, reading, tuning or choice of weights or candidates asks for them.

Of items for which their modality names a network that was trained elsewhere (core/features.py: Pretrained), its own. Of others
two networks like the extractor's, each trained on one half of the held-out items, by another seed, and asked about samples and
the other half: every held-out item is compared with, and none by a network that was trained on it (cross-fitting: Chernozhukov et
al. 2018, arXiv 1608.00060, section 3). So the third split costs neither training data nor references.

N items, M held-out items, D features.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.protocols import ItemSplit
from components.core.records import ItemSpec
from components.evaluation.chosen import noise_items, places
from components.evaluation.kernel import KERNEL_ITEMS, Distance, Kernel, Real, pooled_floor
from components.evaluation.power import REFERENCE_MAX
from components.evaluation.samples import Drawn

if TYPE_CHECKING:
    from components.core.features import Pretrained
    from components.evaluation.extractor import Extractor

Rows = npt.NDArray[np.float32]
SEEDS = (101, 102)  # of the two networks; the extractor's is 0
NOISE_ITEMS = 500
HALVES = len(SEEDS)
EPOCHS, BATCH, STEPS_LEAST = 20, 128, 100


class Part:
    """Some items of a split, as one."""

    def __init__(self, split: ItemSplit, chosen: npt.NDArray[np.int64]) -> None:
        self.split, self.chosen = split, chosen
        self.item: ItemSpec = split.item
        self.labels = None if split.labels is None else split.labels[chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, indices: npt.NDArray[np.int64]) -> Stored:
        """The stored items at `indices`."""
        return self.split.take(self.chosen[indices])


def learnt_by(reference: ItemSplit, part: int) -> Part:
    """The held-out items that the network of a part is trained on: those that it does not judge."""
    return Part(reference, np.flatnonzero(np.arange(len(reference)) % HALVES != part))


def steps_of(items: int, most: int) -> int:
    """Of the training of a network on so many items: both together take about as many as an extractor, at `most`."""
    return int(np.clip(EPOCHS * items // BATCH, STEPS_LEAST, max(STEPS_LEAST, most // HALVES)))


@dataclass(frozen=True, eq=False)
class Unseen:
    """The networks: one that judges all held-out items, or one for each half, which judges items at every second place."""

    name: str
    sha256: str
    networks: Sequence[Callable[[Stored], Rows]]
    samples_most: int | None = None
    real_most: int | None = None
    frechet: str | None = None
    cache: Path | None = None  # a folder for the features of real items, where they take their time

    @classmethod
    def trained(cls, halves: "Sequence[Extractor]") -> "Unseen":
        """Extractors that were trained on `learnt_by` each, by SEEDS."""
        digest = sha256(" ".join(each.sha256 for each in halves).encode()).hexdigest()
        return cls(f"{halves[0].name}-cross-fitted", digest, [each.features for each in halves])

    @classmethod
    def pretrained(cls, network: "Pretrained", *, device: str = "cpu", cache: Path | None = None) -> "Unseen":
        """A network that was trained elsewhere."""
        return cls(
            network.name,
            network.sha256,
            [lambda items: network.features(items, device=device)],
            samples_most=network.samples_most,
            real_most=network.real_most,
            frechet=network.frechet,
            cache=cache,
        )

    def of_real(self, split: ItemSplit, chosen: npt.NDArray[np.int64], *, part: int, what: str) -> Rows:
        """Features of these items of a split, kept in `cache`; `what` names the split."""
        if self.cache is None:
            return self.networks[part](split.take(chosen))
        named = sha256(chosen.tobytes()).hexdigest()[:16]
        path = self.cache / f"{self.sha256[:16]}-{what}-{named}.npy"
        if path.is_file():
            kept: Rows = np.load(path)
            return kept
        found = self.networks[part](split.take(chosen))
        self.cache.mkdir(parents=True, exist_ok=True)
        spare = path.with_suffix(f".{os.getpid()}.tmp.npy")
        np.save(spare, found)
        spare.replace(path)
        return found


@dataclass(frozen=True, eq=False)
class UnseenSide:
    """The held-out items by features that only the proof sees, in as many parts as there are networks; made once a proof."""

    unseen: Unseen
    parts: Sequence[Real]
    spec: ItemSpec
    seed: int
    _known: dict[tuple[str, str], tuple[Rows, ...]] = field(default_factory=dict)  # of samples, which later looks continue

    @classmethod
    def of(cls, unseen: Unseen, train: ItemSplit, reference: ItemSplit, *, seed: int) -> "UnseenSide":
        """Kernels are made from training items, of which no network knows any."""
        most = unseen.real_most or REFERENCE_MAX
        chosen_M, learnt_N = places(len(reference), most, seed=seed), places(len(train), min(most, KERNEL_ITEMS), seed=seed)
        parts = []
        for part in range(len(unseen.networks)):
            own_M = chosen_M[chosen_M % len(unseen.networks) == part]
            kernel = Kernel.of(unseen.of_real(train, learnt_N, part=part, what="train"))
            parts.append(Real.of(kernel, unseen.of_real(reference, own_M, part=part, what="held-out").astype(np.float64)))
        return cls(unseen, parts, train.item, seed)

    @cached_property
    def floor(self) -> float:
        """What is nearer than this is not told from the data."""
        return pooled_floor(self.parts)

    @cached_property
    def noise(self) -> float:
        """The distance of noise."""
        return self._distance(tuple(map(self._features, range(len(self.parts)), [self._noise] * len(self.parts)))).value

    def distance(self, drawn: Drawn) -> Distance:
        """Of the first `samples_most` samples to the held-out items."""
        return self._distance(self.features(drawn))

    def features(self, drawn: Drawn) -> tuple[Rows, ...]:
        """Of these samples, by each network."""
        items = drawn.images[: self.unseen.samples_most]
        key = (drawn.subject, sha256(items[:1].tobytes()).hexdigest())
        known = self._known.get(key)
        have = 0 if known is None else len(known[0])
        if have < len(items):
            new = tuple(self._features(part, items[have:]) for part in range(len(self.parts)))
            known = new if known is None else tuple(np.concatenate(each) for each in zip(known, new, strict=True))
            self._known[key] = known
        assert known is not None
        return tuple(each[: len(items)] for each in known)

    def grows(self, samples: int) -> bool:
        """Whether more samples than these would be looked at."""
        return self.unseen.samples_most is None or samples < self.unseen.samples_most

    @cached_property
    def _noise(self) -> Stored:
        return noise_items(NOISE_ITEMS, self.spec, seed=self.seed)

    def _features(self, part: int, items: Stored) -> Rows:
        return self.unseen.networks[part](items)

    def _distance(self, features: Sequence[Rows]) -> Distance:
        return Distance.pooled([Distance.of(each, real) for each, real in zip(features, self.parts, strict=True)])
