"""What artifacts are measured against: everything about real images and noise, computed once and shared by both of a pair."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.core.errors import DataError
from components.core.protocols import Images, ImageSplit
from components.core.records import Dataset, Metric, Protocol
from components.evaluation.bootstrap import Bootstrap, Floats
from components.evaluation.distances import Gaussian, frechet_resampled
from components.evaluation.diversity import classifier_metrics, closeness, copy_bound, duplicate_bound
from components.evaluation.manifold import Manifold

if TYPE_CHECKING:
    from components.evaluation.extractor import Extractor

ITEMS_MIN = 32  # real images on either side, and samples: below it neighbours and covariances mean nothing
REFERENCE_MAX = 5000  # reference images taken (a seeded choice), which bounds the work on large sets


@dataclass(frozen=True)
class Yardstick:
    """A protocol and the real side of every metric in it."""

    protocol: Protocol
    boot: Bootstrap
    extractor: "Extractor"
    train: ImageSplit
    features_MD: Floats
    real: Manifold
    gaussian: Gaussian
    fd_noise: Floats  # [1 + R]
    duplicate_bound: float  # pixel distance
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
    for what, n in (("train split", len(train)), (f"{reference_split} split", len(reference)), ("number of samples", samples)):
        if n < ITEMS_MIN:
            raise DataError(f"{dataset.name}: {n} in the {what}", allowed=f"{ITEMS_MIN} or more", do="add images or samples")
    boot = Bootstrap(seed=seed, resamples=resamples, level=level)
    held_out = choose(reference, REFERENCE_MAX, seed=seed)
    as_many = choose(train, samples, seed=seed)
    features_MD = extractor.features(held_out).astype(np.float64)
    gaussian = Gaussian.of(features_MD)
    fd_noise, fd_real = (
        frechet_resampled(extractor.features(images), features_MD, boot, real=gaussian, stream=stream)
        for images, stream in ((noise_images(samples, dataset.shape, seed=seed), "generated"), (as_many, "train"))
    )
    return Yardstick(
        protocol=Protocol(
            extractor=extractor.name,
            extractor_sha256=extractor.sha256,
            dataset_md5=dataset.md5,
            reference_split=reference_split,
            reference_count=len(held_out),
            samples=samples,
            resizer=extractor.resizer,
            seed=seed,
            bootstrap=resamples,
            level=level,
        ),
        boot=boot,
        extractor=extractor,
        train=train,
        features_MD=features_MD,
        real=Manifold.of(features_MD),
        gaussian=gaussian,
        fd_noise=fd_noise,
        duplicate_bound=duplicate_bound(as_many),
        copy_bound=copy_bound(closeness(held_out[:samples], train)),
        metrics={
            "fd_noise": boot.metric(float(fd_noise[0]), fd_noise[1:], n=samples, least=0),
            "fd_real": boot.metric(float(fd_real[0]), fd_real[1:], n=len(as_many), least=0),
            **_classified(extractor, held_out, boot),
        },
    )


def choose(split: ImageSplit, at_most: int, *, seed: int) -> Images:
    """Images of a split: all of them, or a seeded choice without repeats."""
    n = len(split)
    if n <= at_most:
        return split.take(np.arange(n, dtype=np.int64))
    return split.take(np.sort(np.random.default_rng([seed, 3]).permutation(n)[:at_most]).astype(np.int64))


def noise_images(n: int, shape: tuple[int, int, int], *, seed: int) -> Images:
    """Uniform noise, uint8 [n, H, W, C]: what a sampler that learnt nothing would give."""
    return np.random.default_rng([seed, 4]).integers(0, 256, (n, *shape), dtype=np.uint8)


def _classified(extractor: "Extractor", held_out: Images, boot: Bootstrap) -> dict[str, Metric]:
    """What the classifier says of real images: the mark for what it says of generated ones."""
    probabilities = extractor.probabilities(held_out)
    if probabilities is None:
        return {}
    sure = classifier_metrics(probabilities, boot)["confident_share"]
    return {"confident_share_real": sure.model_copy(update={"better": "neither"})}
