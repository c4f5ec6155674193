"""What artifacts are measured against: the real items, computed once and shared by all that are measured by one protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from components.core.arrays import Stored
from components.core.errors import DataError
from components.core.proof_items import PROOF_ITEMS
from components.core.protocols import ItemSplit
from components.core.records import Dataset, ScoringProtocol
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.chosen import choose, places
from components.evaluation.distances import Gaussian, frechet_resampled
from components.evaluation.power import MARGIN, REFERENCE_MAX

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor
    from components.evaluation.judge import Judge
    from components.evaluation.unseen import UnseenSide


@dataclass(frozen=True, eq=False)
class RealSide:
    """The reference items and their features: what a distance needs."""

    extractor: "Extractor"
    boot: Bootstrap
    items: Stored
    features_MD: Floats
    gaussian: Gaussian
    labels_M: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, reference: ItemSplit, extractor: "Extractor", boot: Bootstrap) -> "RealSide":
        """At most REFERENCE_MAX items of the split. Raises DataError when there are fewer than PROOF_ITEMS."""
        if len(reference) < PROOF_ITEMS:
            raise DataError(f"{len(reference)} items to compare with", allowed=f"{PROOF_ITEMS} or more", do="add items")
        chosen = places(len(reference), REFERENCE_MAX, seed=boot.seed)
        items, labels = reference.take(chosen), reference.labels
        features_MD = extractor.features(items).astype(np.float64)
        return cls(extractor, boot, items, features_MD, Gaussian.of(features_MD), None if labels is None else labels[chosen])

    def distances(self, features_ND: npt.NDArray[np.floating], *, stream: str = "generated") -> Floats:
        """FD-local of items with these features, and in every resample: [1 + R]."""
        return frechet_resampled(features_ND, self.features_MD, self.boot, real=self.gaussian, stream=stream)


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A protocol and the real side of every metric in it. What one metric alone needs of it, its file makes (evaluated.once)."""

    protocol: ScoringProtocol
    dataset: Dataset
    train: ItemSplit
    reference: ItemSplit
    real: RealSide
    judge: "Judge | None" = None  # of texts; with splits that have captions and their embeddings
    unseen: "UnseenSide | None" = None  # of proofs: what nothing else is measured by
    look: int = 0  # of how many, at samples that double from one to the next
    looks: int = 1
    margins: Mapping[str, float | None] = field(default_factory=dict)  # of the gates on ratios, where a brief sets them

    def margin(self, gate: str) -> float:
        """That of this gate; the usual one where it is off or nobody says."""
        return self.margins.get(gate) or MARGIN

    @property
    def samples_last(self) -> int:
        """How many samples the last look has."""
        return self.protocol.samples << (self.looks - 1 - self.look)

    @cached_property
    def training_items(self) -> Stored:
        """As many training items as there are samples, at most."""
        return choose(self.train, self.protocol.samples, seed=self.protocol.seed)

    @cached_property
    def real_places(self) -> npt.NDArray[np.int64]:
        """Which of the reference items stand for as many as there are samples, at most."""
        return places(len(self.real.items), self.protocol.samples, seed=self.protocol.seed)


def make_yardstick(
    *,
    dataset: Dataset,
    train: ItemSplit,
    reference: ItemSplit,
    extractor: "Extractor",
    seed: int,
    samples: int,
    reference_split: str = "validation",
    resamples: int = 200,
    level: float = 0.95,
    real: RealSide | None = None,
    judge: "Judge | None" = None,
    unseen: "UnseenSide | None" = None,
    look: int = 0,
    looks: int = 1,
    margins: Mapping[str, float | None] | None = None,
) -> Yardstick:
    """The real side at so many samples; `real` where it is at hand already. `judge`: what tells whether samples show what their
    captions say, for models that are asked by a text; `unseen`: the features that only a proof sees. `look`: this one of so many
    `looks`; `margins`: of the gates on ratios, by their names.

    Raises DataError when a split or the number of samples is too small.
    """
    for what, n in (("train split", len(train)), ("number of samples", samples)):
        if n < PROOF_ITEMS:
            raise DataError(f"{dataset.name}: {n} in the {what}", allowed=f"{PROOF_ITEMS} or more", do="add items or samples")
    real = real or RealSide.of(reference, extractor, Bootstrap(seed=seed, resamples=resamples, level=level))
    protocol = ScoringProtocol(
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        dataset_md5=dataset.md5,
        reference_split=reference_split,
        reference_count=len(real.items),
        samples=samples,
        resizer=extractor.resizer,
        seed=seed,
        bootstrap=resamples,
        level=level,
        judge_sha256=None if judge is None else judge.sha256,
        heldout=None if unseen is None else unseen.unseen.name,
        heldout_sha256=None if unseen is None else unseen.unseen.sha256,
    )
    return Yardstick(
        protocol=protocol,
        dataset=dataset,
        train=train,
        reference=reference,
        real=real,
        judge=judge,
        unseen=unseen,
        look=look,
        looks=looks,
        margins=margins or {},
    )
