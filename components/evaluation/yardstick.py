"""What artifacts are measured against: everything about real images and noise, computed once and shared by both of a pair."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from components.core.errors import DataError
from components.core.modality import find_modality
from components.core.proof_items import PROOF_ITEMS
from components.core.protocols import Images, ImageSplit
from components.core.records import Dataset, ItemSpec, Metric, Protocol
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.distances import Gaussian, frechet_resampled
from components.evaluation.diversity import classifier_metrics, closeness, copy_bound, duplicate_bound
from components.evaluation.manifold import Manifold

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor

REFERENCE_MAX = 5000  # reference images taken (a seeded choice), which bounds the work on large sets


@dataclass(frozen=True)
class RealSide:
    """The reference images and their features: what a distance needs."""

    extractor: "Extractor"
    boot: Bootstrap
    images: Images
    features_MD: Floats
    gaussian: Gaussian

    @classmethod
    def of(cls, reference: ImageSplit, extractor: "Extractor", boot: Bootstrap) -> "RealSide":
        """At most REFERENCE_MAX images of the split. Raises DataError when there are fewer than PROOF_ITEMS."""
        if len(reference) < PROOF_ITEMS:
            raise DataError(f"{len(reference)} images to compare with", allowed=f"{PROOF_ITEMS} or more", do="add images")
        images = choose(reference, REFERENCE_MAX, seed=boot.seed)
        features_MD = extractor.features(images).astype(np.float64)
        return cls(extractor, boot, images, features_MD, Gaussian.of(features_MD))

    def distances(self, images: Images, *, stream: str = "generated") -> Floats:
        """FD-local of these images, and in every resample: [1 + R]."""
        return frechet_resampled(self.extractor.features(images), self.features_MD, self.boot, real=self.gaussian, stream=stream)


@dataclass(frozen=True)
class Yardstick:
    """A protocol and the real side of every metric in it."""

    protocol: Protocol
    train: ImageSplit
    real: RealSide
    manifold: Manifold  # of as many real images as there are samples, at most
    fd_noise: Floats  # [1 + R]
    duplicate_bound: float  # distance of the vectors that copies are looked for among
    duplicate_items: int  # that the bound holds for: as many as there were real images
    copy_bound: float  # closeness
    metrics: dict[str, Metric]  # of real images and of noise: fd_real, fd_noise, ...


def make_yardstick(
    *,
    dataset: Dataset,
    train: ImageSplit,
    reference: ImageSplit,
    extractor: "Extractor",
    seed: int,
    samples: int,
    reference_split: str = "validation",
    resamples: int = 200,
    level: float = 0.95,
) -> Yardstick:
    """Measure the real side. Raises DataError when a split or the number of samples is too small."""
    for what, n in (("train split", len(train)), ("number of samples", samples)):
        if n < PROOF_ITEMS:
            raise DataError(f"{dataset.name}: {n} in the {what}", allowed=f"{PROOF_ITEMS} or more", do="add images or samples")
    boot = Bootstrap(seed=seed, resamples=resamples, level=level)
    real = RealSide.of(reference, extractor, boot)
    as_many = choose(train, samples, seed=seed)
    fd_real = real.distances(as_many, stream="train")
    fd_noise = real.distances(noise_items(samples, dataset.item, seed=seed))
    return Yardstick(
        protocol=Protocol(
            extractor=extractor.name,
            extractor_sha256=extractor.sha256,
            dataset_md5=dataset.md5,
            reference_split=reference_split,
            reference_count=len(real.images),
            samples=samples,
            resizer=extractor.resizer,
            seed=seed,
            bootstrap=resamples,
            level=level,
        ),
        train=train,
        real=real,
        manifold=Manifold.of(real.features_MD[_some(len(real.images), samples, seed=seed)]),
        fd_noise=fd_noise,
        duplicate_bound=duplicate_bound(find_modality(dataset.modality).vectors(as_many)),
        duplicate_items=len(as_many),
        copy_bound=copy_bound(closeness(real.images[_some(len(real.images), samples, seed=seed)], train)),
        metrics={
            "fd_noise": boot.metric(float(fd_noise[0]), fd_noise[1:], n=samples, least=0),
            "fd_real": boot.metric(float(fd_real[0]), fd_real[1:], n=len(as_many), least=0),
            **_classified(extractor, real.images, boot),
        },
    )


def choose(split: ImageSplit, at_most: int, *, seed: int) -> Images:
    """Images of a split: all of them, or a seeded choice without repeats."""
    n = len(split)
    if n <= at_most:
        return split.take(np.arange(n, dtype=np.int64))
    return split.take(_some(n, at_most, seed=seed))


def _some(n: int, at_most: int, *, seed: int) -> npt.NDArray[np.int64]:
    """At most so many of n indices, without repeats, in order."""
    return np.sort(np.random.default_rng([seed, 3]).permutation(n)[:at_most]).astype(np.int64)


def noise_items(n: int, item: ItemSpec, *, seed: int) -> Images:
    """What a sampler that learnt nothing would give: stored items [n, *stored_shape]."""
    return find_modality(item.modality).noise(n, item, np.random.default_rng([seed, 4]))


def _classified(extractor: "Extractor", held_out: Images, boot: Bootstrap) -> dict[str, Metric]:
    """What the classifier says of real images: the mark for what it says of generated ones."""
    probabilities = extractor.probabilities(held_out)
    if probabilities is None:
        return {}
    sure = classifier_metrics(probabilities, boot)["confident_share"]
    return {"confident_share_real": sure.model_copy(update={"better": "neither"})}
